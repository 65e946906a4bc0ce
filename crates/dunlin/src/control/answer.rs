//! Answering the question of another node, part by part, as fast as it takes them.

use std::sync::Arc;

use dunlin_core::{
    broker::ReplyTo,
    control::{self, Answer, Body, MessageId, Part, Question},
};
use tokio::{
    sync::watch,
    time::{interval, timeout},
};

use super::{
    Control,
    gathering::{SILENCE, WINDOW},
};

/// Someone asked; dropping it ends the answer.
struct Asked<'a> {
    control: &'a Control,
    to: MessageId,
    /// How many parts have come.
    received: watch::Receiver<u32>,
    sent: u32,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.control.answers.lock().remove(&self.to);
    }
}

impl Control {
    /// Answers, unless too many questions are being answered already.
    pub(super) fn start_answer(self: &Arc<Self>, to: MessageId, question: Question) {
        let Ok(permit) = Arc::clone(&self.answering).try_acquire_owned() else { return };
        let control = Arc::clone(self);
        tokio::spawn(async move {
            let (sender, received) = watch::channel(0);
            control.answers.lock().insert(to, sender);
            let mut asked = Asked { control: &control, to, received, sent: 0 };
            let parts = asked.count(&question).await;
            let last = parts.len().saturating_sub(1);
            for (number, part) in parts.into_iter().enumerate() {
                if !asked.send(part, number == last).await {
                    break;
                }
            }
            drop(permit);
        });
    }

    /// Who asked has so many parts of the answer: more may come.
    pub(super) fn note_received(&self, question: MessageId, count: u32) {
        if let Some(received) = self.answers.lock().get(&question) {
            received.send_replace(count);
        }
    }
}

impl Asked<'_> {
    /// Counts, and is not silent meanwhile.
    async fn count(&mut self, question: &Question) -> Vec<Part> {
        let control = self.control;
        let mut count = std::pin::pin!(control.count(question));
        let mut silence = interval(SILENCE / 3);
        silence.tick().await;
        loop {
            tokio::select! {
                parts = &mut count => return parts,
                _ = silence.tick() => {}
            }
            if let Some(nothing) = nothing(question)
                && !self.send(nothing, false).await
            {
                return Vec::new();
            }
        }
    }

    /// Sends a part. False if nobody takes it any more.
    async fn send(&mut self, part: Part, is_last: bool) -> bool {
        let number = self.sent;
        let has_room = self.received.wait_for(|received| number < received + WINDOW);
        if timeout(SILENCE, has_room).await.is_err() {
            return false;
        }
        self.sent += 1;
        let answer = Answer { to: self.to, number, is_last, part };
        let message = self.control.message(Body::Answer(answer));
        let channel = control::answers_to(self.to.node);
        self.control.tell(channel, &message, None, ReplyTo::Nobody).await;
        true
    }
}

/// A part in which there is nothing; none where each part is an answer.
fn nothing(question: &Question) -> Option<Part> {
    match question {
        Question::Node {} => None,
        Question::Channels { .. } => Some(Part::Channels(Vec::new())),
        Question::Connections { .. } => Some(Part::Connections(Vec::new())),
        Question::Top { .. } => Some(Part::Top(Vec::new())),
    }
}
