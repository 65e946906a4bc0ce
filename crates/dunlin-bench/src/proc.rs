//! What the kernel knows about a process: CPU time and resident memory, from /proc.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use rustix::param;

/// CPU time (user and system, all threads, those that ended too) since the process started.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("{path} is not as proc(5) says"))?;
    Ok(Duration::from_nanos(ticks * (1_000_000_000 / param::clock_ticks_per_second())))
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/statm");
    let statm = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.with_context(|| format!("{path} is not as proc(5) says"))?;
    Ok(pages * param::page_size() as u64)
}

/// utime + stime: fields 14 and 15, counted behind the name, which may hold spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14";
        assert_eq!(cpu_ticks(stat), Some(333));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn this_process_has_memory_and_burns_time() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
        let before = cpu_time(std::process::id()).unwrap();
        while cpu_time(std::process::id()).unwrap() == before {}
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_that_says_so() {
        let error = cpu_time(u32::MAX).unwrap_err().to_string();
        assert_eq!(error, "cannot read /proc/4294967295/stat");
    }
}
