//! Looking at the memory again and again.

use std::{sync::Arc, time::Duration};

use dunlin_core::metrics::Metrics;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Ceilings, Fill, Level, Memory};
use crate::shard::ShardHandle;

/// Time between two looks.
const TICK: Duration = Duration::from_millis(100);

/// Watches for ever.
pub(crate) async fn watch(
    memory: Arc<Memory>,
    ceilings: Ceilings,
    shards: Vec<ShardHandle>,
    metrics: Metrics,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Level::Ample;
    if ceilings.fullest().is_none() {
        tracing::warn!("this system does not tell how much memory there is: it is not watched");
        return;
    }
    loop {
        ticks.tick().await;
        // There may be no descriptor left to look with: what was true a moment ago still is.
        let Some(fill) = ceilings.fullest() else { continue };
        metrics.memory_bytes.set(i64::try_from(fill.used).unwrap_or(i64::MAX));
        metrics.memory_limit_bytes.set(i64::try_from(fill.limit).unwrap_or(i64::MAX));
        let level = before.next(fill);
        memory.set(level);
        if level != before {
            tell(level, before, fill);
            before = level;
        }
        if level == Level::Critical {
            let share = excess(fill) / shards.len();
            let until = Instant::now() + TICK;
            shards.iter().for_each(|shard| shard.shed(share, until));
        }
    }
}

/// How much has to go for memory to be no more than scarce.
fn excess(fill: Fill) -> usize {
    let enough = fill.limit / 1000 * Level::Scarce.begins_at();
    usize::try_from(fill.used.saturating_sub(enough)).unwrap_or(usize::MAX)
}

fn tell(level: Level, before: Level, Fill { used, limit }: Fill) {
    let follows = match level {
        Level::Ample => "memory is ample again",
        Level::Tight => "memory is tight: nobody new is let in",
        Level::Scarce => "memory is scarce: those who send much wait",
        Level::Critical => "memory is critical: those are closed for whom most is kept",
    };
    match level > before {
        true => tracing::warn!(used, limit, "{follows}"),
        false => tracing::info!(used, limit, "{follows}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_go_is_what_is_above_scarce() {
        assert_eq!(excess(Fill { used: 950_000, limit: 1_000_000 }), 70_000);
        assert_eq!(excess(Fill { used: 1, limit: 1_000_000 }), 0);
    }
}
