//! Watches server processes during a run: CPU time while measuring, resident memory before, after
//! and at its peak.

use std::time::Duration;

use anyhow::Result;

use crate::proc;

/// The processes watched and what was read so far.
pub(crate) struct Watch {
    servers: Vec<ServerUse>,
}

/// What one process used.
#[derive(Clone, Debug)]
pub(crate) struct ServerUse {
    /// Its process id.
    pub(crate) pid: u32,
    /// CPU time while measuring.
    pub(crate) cpu: Duration,
    /// Resident bytes before the first connection.
    pub(crate) resident_before: u64,
    /// Resident bytes at the end of measuring.
    pub(crate) resident: u64,
    /// The most resident bytes seen while measuring, looked at ten times a second.
    pub(crate) resident_peak: u64,
}

impl Watch {
    /// To be called before the first connection is opened.
    pub(crate) fn new(pids: &[u32]) -> Result<Self> {
        let server = |&pid: &u32| {
            let resident = proc::resident_bytes(pid)?;
            let cpu = Duration::ZERO;
            Ok(ServerUse { pid, cpu, resident_before: resident, resident, resident_peak: resident })
        };
        Ok(Self { servers: pids.iter().map(server).collect::<Result<_>>()? })
    }

    /// Measuring starts.
    pub(crate) fn start(&mut self) -> Result<()> {
        for server in &mut self.servers {
            server.cpu = proc::cpu_time(server.pid)?;
            server.resident_peak = proc::resident_bytes(server.pid)?;
        }
        Ok(())
    }

    /// Looks at the memory.
    pub(crate) fn tick(&mut self) -> Result<()> {
        for server in &mut self.servers {
            server.resident = proc::resident_bytes(server.pid)?;
            server.resident_peak = server.resident_peak.max(server.resident);
        }
        Ok(())
    }

    /// Measuring ends.
    pub(crate) fn stop(mut self) -> Result<Vec<ServerUse>> {
        self.tick()?;
        for server in &mut self.servers {
            server.cpu = proc::cpu_time(server.pid)? - server.cpu;
        }
        Ok(self.servers)
    }
}
