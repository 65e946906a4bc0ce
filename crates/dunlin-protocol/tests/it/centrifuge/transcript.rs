//! Transcripts: scenes, parted by empty lines. The first line of a scene is its title, each other
//! one begins with a word that says what follows.

use std::fmt::Write;

/// A part of a transcript.
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    lines: Vec<(&'static str, &'static str)>,
}

/// All scenes of a transcript.
pub(crate) fn scenes(transcript: &'static str) -> Vec<Scene> {
    let scenes = transcript.trim_end().split("\n\n").map(|scene| {
        let mut lines = scene.lines();
        let title = lines.next().unwrap();
        let lines = lines.map(|line| line.split_once(' ').unwrap());
        let lines = lines.map(|(word, text)| (word, text.trim_start())).collect();
        Scene { title, lines }
    });
    scenes.collect()
}

/// The scene with this title.
pub(crate) fn scene(transcript: &'static str, title: &str) -> Scene {
    let scene = scenes(transcript).into_iter().find(|scene| scene.title == title);
    scene.unwrap_or_else(|| panic!("no scene {title:?}"))
}

impl Scene {
    /// What stands behind `word`.
    pub(crate) fn line(&self, word: &str) -> &'static str {
        let line = self.lines.iter().find(|line| line.0 == word);
        line.unwrap_or_else(|| panic!("no {word} in {:?}", self.title)).1
    }

    /// The bytes behind `protobuf`.
    pub(crate) fn protobuf(&self) -> Vec<u8> {
        let digits = self.line("protobuf").as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }
}

/// Bytes as a transcript has them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").unwrap();
        digits
    })
}
