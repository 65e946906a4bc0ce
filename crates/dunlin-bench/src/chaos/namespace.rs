//! A network namespace for this process and all that it starts, in which packets can be lost
//! without anybody else noticing. It is gone when its last process is.

use std::{
    env, io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Whether this machine and user can have one: that takes root, unshare (util-linux) and ip
/// (iproute2).
pub(crate) fn is_possible() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--net", "ip", "link", "set", "lo", "up"]).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Starts this program again in a namespace, in the place of this process; comes back only when
/// that fails.
pub(crate) fn start_again_inside() -> io::Error {
    let own = match env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    let arguments = env::args_os().skip(1);
    Command::new("unshare").arg("--net").arg(own).args(arguments).arg("--in-namespace").exec()
}

/// Makes loopback work, and a way on which everything is lost.
pub(crate) fn set_up() -> Result<()> {
    ip("link set lo up")?;
    ip("link add sink type veth peer name drain")?;
    // Without ARP packets leave at once; what comes out at the other end is for nobody.
    ip("link set sink arp off up")?;
    ip("link set drain up")?;
    ip("route add default dev sink table 77")?;
    // Room for rules before that of local addresses.
    ip("rule add pref 10 lookup local")?;
    ip("rule del pref 0")
}

/// From now on packets from and to this port are lost.
pub(crate) fn lose(port: u16) -> Result<()> {
    ip(&format!("rule add pref 1 ipproto tcp dport {port} lookup 77"))?;
    ip(&format!("rule add pref 1 ipproto tcp sport {port} lookup 77"))
}

/// No longer.
pub(crate) fn lose_nothing() -> Result<()> {
    ip("rule del pref 1")?;
    ip("rule del pref 1")
}

fn ip(words: &str) -> Result<()> {
    let status = Command::new("ip").args(words.split(' ')).status().context("cannot run ip")?;
    ensure!(status.success(), "ip {words}: {status}");
    Ok(())
}
