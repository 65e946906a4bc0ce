//! The command line, one file per verb: parse, dispatch, exit code. Help, man page and shell
//! completions all come from the definitions here.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

use self::flags::ConfigFlags;
use crate::config::Problems;

mod flags;
mod serve;

mod demo;
mod leash;

mod check_config;
mod check_token;
mod completions;
mod gen_token;
mod genconfig;
mod healthcheck;
mod man;
mod version;

mod http;
mod pinned;

/// Wrong usage of the command line (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// A configuration that cannot be used (`EX_CONFIG` of sysexits.h).
const CONFIG: u8 = 78;

/// A WebSocket server that scales sideways over Redis.
///
/// Start as many nodes as you like against one Redis and connect a client to any of them: what it
/// publishes reaches every subscriber of that channel on every node. Without a verb, `serve` is
/// meant.
#[derive(Debug, Parser)]
#[command(name = "dunlin", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 64 wrong usage, 78 bad configuration.")]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node; what no verb means, too
    Serve(ConfigFlags),
    /// Run several nodes on this machine over a private Redis, to see how it works
    Demo(demo::DemoFlags),
    /// Check the configuration and print what is in effect, passwords left out
    CheckConfig(ConfigFlags),
    /// Print the documented default configuration
    Genconfig,
    /// Make a token for trials, signed with the configured secret
    GenToken(gen_token::GenTokenFlags),
    /// Say whether a token is good and what it says; exit code 0 or 1
    CheckToken(check_token::CheckTokenFlags),
    /// Ask a running node whether it is alive; exit code 0 or 1
    Healthcheck(healthcheck::HealthcheckFlags),
    /// Print the version
    Version,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
    /// Run a program that ends when standard input does
    #[command(hide = true)]
    Leash(leash::LeashFlags),
}

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let printed = error.print();
            let wrong = error.use_stderr() || printed.is_err();
            return if wrong { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    run(arguments).unwrap_or_else(|error| {
        // Nobody is left to tell if standard error is gone.
        let _told = writeln!(io::stderr(), "dunlin: {error:#}");
        exit_code(&error)
    })
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb.unwrap_or(Verb::Serve(arguments.config)) {
        Verb::Serve(flags) => serve::run(flags),
        Verb::Demo(flags) => demo::run(flags),
        Verb::CheckConfig(flags) => check_config::run(flags),
        Verb::Genconfig => genconfig::run(),
        Verb::GenToken(flags) => gen_token::run(flags),
        Verb::CheckToken(flags) => check_token::run(flags),
        Verb::Healthcheck(flags) => healthcheck::run(flags),
        Verb::Version => version::run(),
        Verb::Completions { shell } => completions::run(shell, &mut Arguments::command()),
        Verb::Man => man::run(Arguments::command()),
        Verb::Leash(flags) => leash::run(&flags),
    }
}

/// What a failure means to the caller of the program.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Problems>() {
        Some(_) => ExitCode::from(CONFIG),
        None => ExitCode::FAILURE,
    }
}

/// Prints to standard output, for verbs whose result it is. A reader that has gone (`| head`) is
/// no failure.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_verb_is_serve() {
        let arguments = Arguments::try_parse_from(["dunlin", "--listen", "[::1]:1"]).unwrap();
        assert!(arguments.verb.is_none());
        assert_eq!(arguments.config.load().unwrap().config.listen, "[::1]:1".parse().unwrap());
        Arguments::try_parse_from(["dunlin", "--listen", "[::1]:1", "genconfig"]).unwrap_err();
    }
}
