//! Surveys: a question to all nodes and what they answer, part by part.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dunlin_core::{
    broker::ReplyTo,
    control::{self, Answer, Body, MessageId, Part, Question},
    ids::NodeId,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Control, gathering::Gathering};

/// How long all answers together may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Channels or connections in the answers to one question; those beyond are left out, which is
/// said.
const ENTRIES_MAX: usize = 1_000_000;

/// What a survey found.
#[derive(Debug)]
pub(crate) struct Findings {
    /// The answers of the nodes.
    pub(crate) answers: Vec<(NodeId, Vec<Part>)>,
    /// Those that fell silent before their answers were whole, with their names.
    pub(crate) missing: Vec<(NodeId, String)>,
    /// Whether there is more than [`ENTRIES_MAX`].
    pub(crate) is_truncated: bool,
}

/// What somebody waits for.
#[derive(Debug)]
pub(super) struct Survey {
    gathering: Mutex<Gathering>,
    /// Something came.
    changed: Notify,
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
    /// Asks all nodes. Waits for those that go on answering.
    pub(crate) async fn ask(&self, question: Question) -> Findings {
        let (now, own_name) = (Instant::now(), self.parts.node_name.clone());
        let deadline = now + DEADLINE;
        let others = self.register.lock().living(now);
        let gathering = Gathering::new(others.iter().map(|(node, _)| *node), ENTRIES_MAX, now);
        let (own, mut gathering) = tokio::join!(
            timeout_at(deadline, self.count(&question)),
            self.ask_others(&question, gathering, deadline),
        );
        let parts = own.unwrap_or_default();
        let count = parts.len();
        for (number, part) in parts.into_iter().enumerate() {
            let to = MessageId { node: self.id, number: 0 };
            let (is_last, number) =
                (number + 1 == count, u32::try_from(number).unwrap_or(u32::MAX));
            let _ = gathering.take(self.id, Answer { to, number, is_last, part }, now);
        }
        let is_truncated = gathering.is_truncated();
        let answers = gathering.into_answers();
        let all = others.into_iter().chain([(self.id, own_name)]);
        let missing = all.filter(|(node, _)| !is_truncated && !answers.contains_key(node));
        let missing = missing.collect();
        Findings { answers: answers.into_iter().collect(), missing, is_truncated }
    }

    async fn ask_others(
        &self,
        question: &Question,
        mut gathering: Gathering,
        deadline: Instant,
    ) -> Gathering {
        if gathering.waits_until(Instant::now()).is_none() {
            return gathering;
        }
        let message = self.message(Body::Question(question.clone()));
        let survey = Survey { gathering: Mutex::new(gathering), changed: Notify::new() };
        let survey = Arc::new(survey);
        self.surveys.lock().insert(message.id, Arc::clone(&survey));
        let waiting = Waiting { control: self, question: message.id };
        self.tell(control::nodes(), &message, None, ReplyTo::Nobody).await;
        loop {
            let now = Instant::now();
            let until = survey.gathering.lock().waits_until(now);
            match until.filter(|_| now < deadline) {
                // Whatever ends the wait, the gathering knows what it means.
                Some(until) => _ = timeout_at(until, survey.changed.notified()).await,
                None => break,
            }
        }
        drop(waiting);
        let now = Instant::now();
        std::mem::replace(&mut *survey.gathering.lock(), Gathering::new([], 0, now))
    }

    /// Gives a part of an answer to who asked, if anybody still waits for it, and has its node go
    /// on.
    pub(super) fn hand_over(self: &Arc<Self>, id: MessageId, answer: Answer) {
        let question = answer.to;
        let Some(survey) = self.surveys.lock().get(&question).cloned() else { return };
        let received = survey.gathering.lock().take(id.node, answer, Instant::now());
        survey.changed.notify_one();
        if let Some(count) = received {
            let control = Arc::clone(self);
            tokio::spawn(async move {
                let message = control.message(Body::Received { to: question, count });
                let channel = control::answers_to(id.node);
                control.tell(channel, &message, None, ReplyTo::Nobody).await;
            });
        }
    }
}

/// Who waits for answers to which question.
pub(super) type Surveys = HashMap<MessageId, Arc<Survey>>;
