//! What bringing a stack up tells: a step, and while downloading, each file.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// One thing that `up` or `down` is doing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Installing a missing tool with the system's package manager.
    Installing(&'static str),
    /// Resolving and downloading the engines; the text names the file in hand.
    Downloading { file: String, done: u32 },
    /// Unpacking PostgreSQL.
    Unpacking,
    /// Making keys and certificates.
    Keys,
    /// First format of an engine's data.
    Formatting(&'static str),
    /// Starting an engine.
    Starting(&'static str),
    /// Stopping an engine.
    Stopping(&'static str),
    /// Everything answers.
    Ready,
}

impl Step {
    /// What a person is told.
    pub fn text(&self, chinese: bool) -> String {
        match (self, chinese) {
            (Self::Installing(what), true) => format!("安装 {what}"),
            (Self::Installing(what), false) => format!("installing {what}"),
            (Self::Downloading { file, done }, true) => format!("下载第 {done} 个文件：{file}"),
            (Self::Downloading { file, done }, false) => {
                format!("downloading file {done}: {file}")
            }
            (Self::Unpacking, true) => "解压 PostgreSQL".to_owned(),
            (Self::Unpacking, false) => "unpacking PostgreSQL".to_owned(),
            (Self::Keys, true) => "生成密钥与证书".to_owned(),
            (Self::Keys, false) => "making keys and certificates".to_owned(),
            (Self::Formatting(engine), true) => format!("初始化 {engine}"),
            (Self::Formatting(engine), false) => format!("formatting {engine}"),
            (Self::Starting(engine), true) => format!("启动 {engine}"),
            (Self::Starting(engine), false) => format!("starting {engine}"),
            (Self::Stopping(engine), true) => format!("停止 {engine}"),
            (Self::Stopping(engine), false) => format!("stopping {engine}"),
            (Self::Ready, true) => "就绪".to_owned(),
            (Self::Ready, false) => "ready".to_owned(),
        }
    }
}

/// Receives the steps.
pub trait Progress {
    fn step(&self, step: Step);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _: Step) {}
}

/// A spinner on standard error; plain silence when that is not a terminal.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    chinese: bool,
}

impl Bar {
    /// A spinner with Chinese or English texts.
    pub fn new(chinese: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, chinese }
    }
}

impl Progress for Bar {
    fn step(&self, step: Step) {
        if step == Step::Ready {
            self.bar.finish_and_clear();
        } else {
            self.bar.set_message(step.text(self.chinese));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
