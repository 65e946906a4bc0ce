//! The flags that are settings, shared by all verbs that read the configuration.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use crate::{
    config::{self, FILE_VARIABLE, Loaded, Problems, Setting, Sources},
    front::demo,
};

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Configuration (flags > environment DUNLIN_* > file > defaults)")]
pub(super) struct ConfigFlags {
    /// Configuration file; `dunlin genconfig` prints one with everything in it
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE)]
    pub(super) config: Option<PathBuf>,

    /// Address and port to accept connections on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// Redis shared by all nodes: redis://, rediss:// or redis+unix:// [default: none, one node]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// How long to wait at start for a Redis that cannot be reached
    #[arg(long, value_name = "DURATION")]
    redis_wait: Option<String>,

    /// Any key of the configuration, as in --set limits.backlog_age=30s; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,

    /// off, error, warn, info, debug or trace; or per module: info,dunlin::front=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// auto, text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// The channels of the demo page's second tab, unless there is a configuration file
    #[arg(long, hide = true)]
    demo_channels: bool,
}

impl ConfigFlags {
    /// The effective configuration of these flags and this process' environment.
    pub(super) fn load(self) -> Result<Loaded, Problems> {
        let set = self.set.into_iter().map(|(key, text)| Setting::flag("--set", key, text));
        let named = [
            ("--listen", "listen", self.listen),
            ("--redis", "redis.url", self.redis),
            ("--redis-wait", "redis.wait", self.redis_wait),
            ("--log-level", "log.level", self.log_level),
            ("--log-format", "log.format", self.log_format),
        ];
        let named =
            named.into_iter().filter_map(|(flag, key, text)| Some(Setting::flag(flag, key, text?)));
        config::load(Sources {
            file: self.config,
            instead_of_file: self.demo_channels.then_some(demo::SETTINGS),
            environment: std::env::vars_os().collect(),
            flags: set.chain(named).collect(),
        })
    }

    /// These flags as arguments for a node of the demo, less those that the demo decides itself.
    pub(super) fn for_node(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = match &self.config {
            Some(file) => vec!["--config".into(), file.into()],
            None => vec!["--demo-channels".into()],
        };
        let decided = ["listen", "redis.url", "node.name", "log.format"];
        for (key, text) in self.set.iter().filter(|(key, _)| !decided.contains(&key.as_str())) {
            arguments.extend(["--set".into(), OsString::from(format!("{key}={text}"))]);
        }
        for (flag, text) in [("--redis-wait", &self.redis_wait), ("--log-level", &self.log_level)] {
            if let Some(text) = text {
                arguments.extend([flag, text].map(OsString::from));
            }
        }
        arguments
    }
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected section.key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
