//! Surveys: a question to all nodes and what they answer within a deadline.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use dunlin_core::{
    broker::ReplyTo,
    control::{self, Answer, Body, MessageId, Part, Question},
    ids::NodeId,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::Control;

/// How long nodes have for their answers.
const DEADLINE: Duration = Duration::from_secs(1);

/// Parts of answers that may wait for who asked; nodes whose parts find no room did not answer.
const PARTS_WAITING_MAX: usize = 1024;

/// What a survey found.
#[derive(Debug)]
pub(crate) struct Findings {
    /// The answers of the nodes.
    pub(crate) answers: Vec<(NodeId, Vec<Part>)>,
    /// Those that did not answer in time, with their names.
    pub(crate) missing: Vec<(NodeId, String)>,
}

/// What came of one node so far.
#[derive(Debug, Default)]
struct Gathered {
    parts: HashMap<u32, Part>,
    count: Option<u32>,
}

impl Gathered {
    fn take(&mut self, answer: Answer) {
        if answer.is_last {
            self.count = Some(answer.number + 1);
        }
        self.parts.insert(answer.number, answer.part);
    }

    fn is_whole(&self) -> bool {
        self.count.is_some_and(|count| self.parts.len() == count as usize)
    }
}

/// Someone waits for answers; dropping it ends that.
struct Waiting<'a> {
    control: &'a Control,
    question: MessageId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.control.surveys.lock().remove(&self.question);
    }
}

impl Control {
    /// Asks all nodes. The answers are there after [`DEADLINE`] at the latest.
    pub(crate) async fn ask(&self, question: Question) -> Findings {
        let (now, own_name) = (Instant::now(), self.introduction.name.clone());
        let others = self.register.lock().living(now);
        let (own, mut gathered) = tokio::join!(
            timeout_at(now + DEADLINE, self.count(&question)),
            self.ask_others(&question, &others, now + DEADLINE),
        );
        gathered.extend(own.map(|parts| (self.id, parts)));
        let all = others.into_iter().chain([(self.id, own_name)]);
        let missing = all.filter(|(node, _)| !gathered.contains_key(node)).collect();
        Findings { answers: gathered.into_iter().collect(), missing }
    }

    /// The whole answers of other nodes, those that nobody knew of included.
    async fn ask_others(
        &self,
        question: &Question,
        others: &[(NodeId, String)],
        deadline: Instant,
    ) -> HashMap<NodeId, Vec<Part>> {
        if others.is_empty() {
            return HashMap::new();
        }
        let message = self.message(Body::Question(question.clone()));
        let (answers, mut answered) = mpsc::channel(PARTS_WAITING_MAX);
        self.surveys.lock().insert(message.id, answers);
        let _waiting = Waiting { control: self, question: message.id };
        let mut expected: HashSet<_> = others.iter().map(|(node, _)| *node).collect();
        let mut gathered = HashMap::<NodeId, Gathered>::new();
        let gather = async {
            self.tell(control::nodes(), &message, None, ReplyTo::Nobody).await;
            while !expected.is_empty() {
                let Some((node, answer)) = answered.recv().await else { return };
                let of_node = gathered.entry(node).or_default();
                of_node.take(answer);
                if of_node.is_whole() {
                    expected.remove(&node);
                }
            }
        };
        // What is there at the deadline is what there is.
        let _ = timeout_at(deadline, gather).await;
        let whole = gathered.into_iter().filter(|(_, gathered)| gathered.is_whole());
        whole.map(|(node, gathered)| (node, gathered.parts.into_values().collect())).collect()
    }
}
