//! How much load each group of rows gets.

/// The sizes of a comparison.
pub(super) struct Scale {
    /// Fan-out rows: connections.
    pub(super) connections: Vec<usize>,
    /// Fan-out rows: messages in flight.
    pub(super) windows: Vec<u32>,
    /// Each fan-out run: seconds to measure.
    pub(super) seconds: f64,
    /// Turns per row.
    pub(super) rounds: usize,
    /// Two nodes over Redis: connections over both.
    pub(super) node_connections: usize,
    /// Many channels, two subscribers on each.
    pub(super) channels: u32,
    /// Idle connections.
    pub(super) idle_connections: usize,
    /// How long they are held: more than the default ping interval.
    pub(super) idle_seconds: f64,
    /// Connections of the storm.
    pub(super) storm_connections: usize,
    /// Stall: connections, one in a hundred of which stops reading.
    pub(super) stall_connections: usize,
    /// Stall: messages of 1 KiB in each phase.
    pub(super) stall_messages: u32,
    /// Stall: messages per second.
    pub(super) stall_rate: f64,
    /// Recovery: seconds to publish.
    pub(super) check_seconds: f64,
}

impl Scale {
    /// What the bars are meant for.
    pub(super) fn full() -> Self {
        Self {
            connections: vec![1000, 5000],
            windows: vec![1, 4, 32],
            seconds: 5.0,
            rounds: 3,
            node_connections: 2000,
            channels: 2500,
            idle_connections: 15_000,
            idle_seconds: 30.0,
            storm_connections: 15_000,
            stall_connections: 2000,
            stall_messages: 20_000,
            stall_rate: 500.0,
            check_seconds: 120.0,
        }
    }

    /// Everything once and briefly.
    pub(super) fn quick() -> Self {
        Self {
            connections: vec![100],
            windows: vec![1, 32],
            seconds: 0.5,
            rounds: 1,
            node_connections: 100,
            channels: 50,
            idle_connections: 500,
            idle_seconds: 1.0,
            storm_connections: 1000,
            stall_connections: 100,
            // More than the kernel's buffers and the backlog hold, or nobody would be stalled.
            stall_messages: 8000,
            stall_rate: 2000.0,
            check_seconds: 12.0,
        }
    }
}
