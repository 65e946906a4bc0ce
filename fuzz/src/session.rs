//! The target for a session as a whole: what a client sends, and what happens around it.

use dunlin_core::{
    publication::Encoding,
    session::model::{Act, Model},
};
use dunlin_protocol::centrifuge::commands;

/// Whatever a client sends and whatever happens around its session, in any order, the books of its
/// model balance.
///
/// Input: the first byte is whether clients need a token; then lines. A line that begins with `!`
/// is something that happens, its three bytes say what; every other line is a command.
pub fn session(data: &[u8]) {
    let Some((options, lines)) = data.split_first() else { return };
    let mut model = Model::new(Encoding::Json, options % 2 == 0);
    for line in lines.split(|byte| *byte == b'\n').take(LINES_MAX) {
        if let Some(act) = line.strip_prefix(b"!") {
            act_of(act).into_iter().for_each(|act| model.act(act));
            continue;
        }
        for command in commands(Encoding::Json, line, 1 << 16).map_while(Result::ok) {
            model.act(Act::Command(command));
        }
    }
    model.finish();
}

/// More tell nothing new.
const LINES_MAX: usize = 200;

fn act_of(bytes: &[u8]) -> Option<Act> {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let (which, how) = (byte(1), byte(2));
    Some(match bytes.first()? {
        b'a' => Act::Answer(which, how),
        b'A' => Act::AnswerAgain(which),
        b'j' => Act::Place(which, how % 2 == 0),
        b'J' => Act::NoPlace(which),
        b'p' => Act::Published(which, how % 2 == 0),
        b't' => Act::Turned(which, how),
        b'o' => Act::Order(which, how),
        b'r' => Act::Revoked(which),
        b'w' => Act::Wait(which),
        _ => return None,
    })
}
