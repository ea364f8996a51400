//! Checkpoints: the text a log signs (<https://c2sp.org/tlog-checkpoint>).

use crate::MAX_SIZE;
use crate::merkle::{Hash, empty_root};
use crate::text::{decimal, hash_from_base64, is_line, to_base64};

/// A log's statement of its size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; also the name of its key.
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    /// Further lines. The specification advises against them.
    pub extensions: Vec<String>,
}

/// Why a text is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("a checkpoint has at least three lines, each ended by a newline")]
    Lines,
    #[error("the origin is empty or has control characters")]
    Origin,
    #[error("the size is not a decimal number below 2^63")]
    Size,
    #[error("the root is not the base64 of 32 bytes")]
    Root,
    #[error("a tree without leaves has another root")]
    EmptyRoot,
    #[error("an extension line is empty or has control characters")]
    Extension,
}

impl Checkpoint {
    /// The note text. Refuses values that `parse` would refuse.
    pub fn encode(&self) -> Result<String, CheckpointError> {
        self.check()?;
        let mut text = format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            to_base64(&self.root)
        );
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads a note text.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: decimal(size).ok_or(CheckpointError::Size)?,
            root: hash_from_base64(root).ok_or(CheckpointError::Root)?,
            extensions: lines.map(str::to_owned).collect(),
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    fn check(&self) -> Result<(), CheckpointError> {
        if !is_line(&self.origin) {
            return Err(CheckpointError::Origin);
        }
        if self.size > MAX_SIZE {
            return Err(CheckpointError::Size);
        }
        if self.size == 0 && self.root != empty_root() {
            return Err(CheckpointError::EmptyRoot);
        }
        if !self.extensions.iter().all(|line| is_line(line)) {
            return Err(CheckpointError::Extension);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_published_example() {
        let checkpoint = Checkpoint::parse(EXAMPLE).unwrap();
        assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(checkpoint.encode().unwrap(), EXAMPLE);
    }

    #[test]
    fn hostile_texts_are_refused() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        use CheckpointError::*;
        for (text, fault) in [
            (String::new(), Lines),
            ("log\n1\n".into(), Lines),
            (format!("log\n1\n{root}"), Lines),
            (format!("\n1\n{root}\n"), Origin),
            (format!("l\tg\n1\n{root}\n"), Origin),
            (format!("log\n01\n{root}\n"), Size),
            (format!("log\n+1\n{root}\n"), Size),
            (format!("log\n\n{root}\n"), Size),
            (format!("log\n9223372036854775808\n{root}\n"), Size),
            (format!("log\n1\r\n{root}\n"), Size),
            (format!("log\n1\n{root}=\n"), Root),
            (format!("log\n1\n{}\n", &root[..43]), Root),
            (format!("log\n1\n{}J=\n", &root[..42]), Root),
            (format!("log\n0\n{root}\n"), EmptyRoot),
            (format!("log\n1\n{root}\n\n"), Extension),
            (format!("log\n1\n{root}\na\n\nb\n"), Extension),
        ] {
            assert_eq!(Checkpoint::parse(&text), Err(fault), "{text:?}");
        }
        let bad = Checkpoint {
            origin: "a\nb".into(),
            size: 1,
            root: [0; 32],
            extensions: vec![],
        };
        assert_eq!(bad.encode(), Err(Origin));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            origin in "[^\\x00-\\x1f]{1,40}", size in 1..=MAX_SIZE, root: Hash,
            extensions in prop::collection::vec("[^\\x00-\\x1f]{1,20}", 0..4),
        ) {
            let checkpoint = Checkpoint { origin, size, root, extensions };
            let text = checkpoint.encode().unwrap();
            prop_assert_eq!(Checkpoint::parse(&text), Ok(checkpoint));
        }

        #[test]
        fn what_is_read_is_written(text in "(log|l g)\n[0-9]{1,3}\n[A-Za-z0-9+/]{43}=\n(x\n)?") {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.encode().unwrap(), text);
            }
        }

        #[test]
        fn any_text_is_survived(text: String) {
            let _ = Checkpoint::parse(&text);
        }
    }
}
