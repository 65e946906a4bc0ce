//! Asks all sentinels of a service where its primary is, listens to all of them, and believes those
//! whose configuration is the newest.
//! (Redis Sentinel client specification.)
//!
//! A sentinel's address of the primary and its number of the configuration may contradict each
//! other for a second while it leads a failover: it names the new address under the old number. So
//! all addresses under the newest number count, and the role that a server tells decides.

use std::{collections::BTreeSet, pin::pin, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{
    link::{
        command,
        connection::Connection,
        dial::Dialer,
        error::LinkError,
        greeting::{Facts, ask},
        inquiry::{ANSWER_WAIT, rest},
        place::News,
        reconnect::{Backoff, Failure},
        value::Value,
    },
    news,
    url::{Endpoint, Security, Sentinels},
};

/// Watches the sentinels of one service.
pub(crate) struct Watch {
    service: String,
    security: Security,
    /// By sentinel.
    reports: Mutex<Vec<Report>>,
    news: watch::Sender<News>,
    doubt: Arc<Notify>,
}

/// What a sentinel said last.
#[derive(Debug, Clone)]
enum Report {
    At { endpoint: Endpoint, configuration: u64 },
    Nothing(Arc<str>),
}

impl Watch {
    /// A watch that knows nothing yet, and what it will tell.
    pub(crate) fn new(sentinels: &Sentinels) -> (Arc<Self>, watch::Receiver<News>, Arc<Notify>) {
        let unheard: Arc<str> = "no sentinel has answered yet".into();
        let (news, told) = watch::channel(News::Unknown(Arc::clone(&unheard)));
        let doubt = Arc::new(Notify::new());
        let watch = Self {
            service: sentinels.service.clone(),
            security: sentinels.security,
            reports: Mutex::new(vec![Report::Nothing(unheard); sentinels.addresses.len()]),
            news,
            doubt: Arc::clone(&doubt),
        };
        (Arc::new(watch), told, doubt)
    }

    /// Keeps asking one of them, for ever.
    pub(crate) async fn follow(&self, number: usize, sentinel: Dialer) {
        let mut backoff = Backoff::default();
        loop {
            let failed = match sentinel.dial_informant().await {
                Ok(connection) => {
                    backoff = Backoff::default();
                    self.listen(number, connection).await
                }
                Err(error) => error,
            };
            tracing::debug!(address = %sentinel, "sentinel {failed}");
            self.note_silent(number, &format!("{sentinel} {failed}"));
            sleep(backoff.next_wait(Failure::Costly)).await;
        }
    }

    /// Returns why the connection was lost.
    async fn listen(&self, number: usize, mut connection: Connection) -> LinkError {
        command::write(&mut connection.out, &[b"SUBSCRIBE", b"+switch-master"]);
        loop {
            let mut doubted = pin!(self.doubt.notified());
            doubted.as_mut().enable();
            match timeout(ANSWER_WAIT, self.question(&mut connection)).await {
                Ok(Ok(report)) => self.note(number, report),
                Ok(Err(lost)) => return lost,
                Err(_) => return LinkError::Timeout(ANSWER_WAIT),
            }
            if let Err(lost) = rest(&mut connection, doubted).await {
                return lost;
            }
        }
    }

    async fn question(&self, connection: &mut Connection) -> Result<Report, LinkError> {
        let service = self.service.as_bytes();
        let address = ask(connection, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service]).await?;
        let facts = ask(connection, &[b"SENTINEL", b"MASTER", service]).await?;
        let Some(endpoint) = self.endpoint(&address) else {
            let text = match facts {
                Value::Error(text) => String::from_utf8_lossy(&text).into_owned(),
                _ => "ERR No such master".to_owned(),
            };
            return Ok(Report::Nothing(text.into()));
        };
        let facts = match facts {
            Value::Map(facts) => Facts(facts),
            _ => Facts(Vec::new()),
        };
        let configuration = facts.text(b"config-epoch").and_then(|number| number.parse().ok());
        Ok(Report::At { endpoint, configuration: configuration.unwrap_or_default() })
    }

    fn endpoint(&self, address: &Value) -> Option<Endpoint> {
        let Value::Array(parts) = address else { return None };
        let text = |part: &Value| Some(String::from_utf8_lossy(part.as_bytes()?).into_owned());
        let [host, port] = &parts[..] else { return None };
        let port = text(port)?.parse().ok()?;
        Some(Endpoint::Tcp { host: text(host)?, port, security: self.security })
    }

    fn note(&self, number: usize, report: Report) {
        let mut reports = self.reports.lock();
        reports[number] = report;
        self.tell(&reports);
    }

    /// One that is away may well be right still; who never said anything says why.
    fn note_silent(&self, number: usize, why: &str) {
        let mut reports = self.reports.lock();
        if matches!(reports[number], Report::Nothing(_)) {
            reports[number] = Report::Nothing(why.into());
        }
        self.tell(&reports);
    }

    fn tell(&self, reports: &[Report]) {
        news::tell(&self.news, judge(reports));
    }
}

/// All addresses under the newest configuration, those that most name first.
fn judge(reports: &[Report]) -> News {
    let at = |report: &Report| match report {
        Report::At { endpoint, configuration } => Some((*configuration, endpoint.clone())),
        Report::Nothing(_) => None,
    };
    let told: Vec<_> = reports.iter().filter_map(at).collect();
    let Some(newest) = told.iter().map(|(configuration, _)| *configuration).max() else {
        let why = |report: &Report| match report {
            Report::Nothing(why) => Some(why.to_string()),
            Report::At { .. } => None,
        };
        let why: BTreeSet<_> = reports.iter().filter_map(why).collect();
        return News::Unknown(why.into_iter().collect::<Vec<_>>().join("; ").into());
    };
    let mut places: Vec<(usize, Endpoint)> = Vec::new();
    for (_, endpoint) in told.into_iter().filter(|(configuration, _)| *configuration == newest) {
        match places.iter_mut().find(|(_, known)| *known == endpoint) {
            Some((count, _)) => *count += 1,
            None => places.push((1, endpoint)),
        }
    }
    places.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    News::At(places.into_iter().map(|(_, endpoint)| endpoint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16, configuration: u64) -> Report {
        Report::At { endpoint: endpoint(port), configuration }
    }

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::Tcp { host: "h".to_owned(), port, security: Security::Plain }
    }

    fn check(reports: &[Report], expected: &[u16]) {
        let expected: Vec<_> = expected.iter().map(|port| endpoint(*port)).collect();
        assert_eq!(judge(reports), News::At(expected.into()));
    }

    #[test]
    fn the_newest_configuration_is_believed_however_few_know_it() {
        check(&[at(1, 3), at(1, 3), at(2, 4)], &[2]);
        check(&[at(1, 3), at(2, 3), at(2, 3)], &[2, 1]);
        check(&[Report::Nothing("x".into()), at(1, 0)], &[1]);
    }

    #[test]
    fn if_nobody_knows_everybody_says_why() {
        let silent = |why: &str| Report::Nothing(why.into());
        let unknown = News::Unknown("a; b".into());
        assert_eq!(judge(&[silent("b"), silent("a"), silent("b")]), unknown);
    }
}
