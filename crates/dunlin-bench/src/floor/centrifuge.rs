//! The floor's centrifuge: grants everything, numbers publications, keeps none. JSON, one channel.
//! It trusts its clients: lines are searched, not parsed.

use memchr::memmem;

use crate::websocket;

/// Takes the commands of a frame: appends a frame for each publication to `pushes` and the answers,
/// as one frame, to `answers`. `offset` is that of the last publication.
pub(super) fn obey(commands: &[u8], offset: &mut u64, pushes: &mut Vec<u8>, answers: &mut Vec<u8>) {
    let mut lines = Vec::new();
    for line in commands.split(|&byte| byte == b'\n') {
        let Some(rest) = line.strip_prefix(b"{\"id\":") else { continue };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (id, rest) = rest.split_at(digits);
        let answer: &[u8] = if let Some(data) = published(rest) {
            *offset += 1;
            push(data, *offset, pushes);
            b"\"publish\":{}"
        } else if rest.starts_with(b",\"subscribe\"") {
            b"\"subscribe\":{\"recoverable\":true,\"epoch\":\"floor\",\"positioned\":true}"
        } else {
            b"\"connect\":{\"client\":\"floor\",\"version\":\"0\"}"
        };
        if !lines.is_empty() {
            lines.push(b'\n');
        }
        [&b"{\"id\":"[..], id, b",", answer, b"}"].iter().for_each(|part| lines.extend(*part));
    }
    if !lines.is_empty() {
        websocket::put_header(answers, websocket::TEXT, lines.len());
        answers.extend_from_slice(&lines);
    }
}

/// The data of a publish command, from behind its id on.
fn published(rest: &[u8]) -> Option<&[u8]> {
    let rest = rest.strip_prefix(b",\"publish\"")?;
    let start = memmem::find(rest, b"\"data\":")? + 7;
    rest.get(start..rest.len().checked_sub(2)?)
}

fn push(data: &[u8], offset: u64, pushes: &mut Vec<u8>) {
    let behind = format!(",\"offset\":{offset}}}}}}}");
    websocket::put_header(pushes, websocket::TEXT, BEFORE.len() + data.len() + behind.len());
    [BEFORE, data, behind.as_bytes()].iter().for_each(|part| pushes.extend_from_slice(part));
}

const BEFORE: &[u8] = b"{\"push\":{\"channel\":\"bench-0\",\"pub\":{\"data\":";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_are_numbered_and_commands_answered() {
        let commands = concat!(
            r#"{"id":1,"connect":{}}"#,
            "\n",
            r#"{"id":2,"subscribe":{"channel":"bench-0"}}"#,
            "\n",
            r#"{"id":3,"publish":{"channel":"bench-0","data":"x"}}"#,
            "\n{}",
        );
        let (mut pushes, mut answers, mut offset) = (Vec::new(), Vec::new(), 8);
        obey(commands.as_bytes(), &mut offset, &mut pushes, &mut answers);
        let push = r#"{"push":{"channel":"bench-0","pub":{"data":"x","offset":9}}}"#;
        assert_eq!((&pushes[2..], offset), (push.as_bytes(), 9));
        let answers = String::from_utf8(answers.split_off(4)).unwrap();
        let lines: Vec<serde_json::Value> =
            answers.split('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<_> = lines.iter().map(|line| line["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, [1, 2, 3], "{answers}");
    }
}
