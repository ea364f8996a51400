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
        let text = match (&step, self.chinese) {
            (Step::Installing(what), true) => format!("安装 {what}"),
            (Step::Installing(what), false) => format!("installing {what}"),
            (Step::Downloading { file, done }, true) => format!("下载第 {done} 个文件：{file}"),
            (Step::Downloading { file, done }, false) => format!("downloading file {done}: {file}"),
            (Step::Unpacking, true) => "解压 PostgreSQL".to_owned(),
            (Step::Unpacking, false) => "unpacking PostgreSQL".to_owned(),
            (Step::Keys, true) => "生成密钥与证书".to_owned(),
            (Step::Keys, false) => "making keys and certificates".to_owned(),
            (Step::Formatting(engine), true) => format!("初始化 {engine}"),
            (Step::Formatting(engine), false) => format!("formatting {engine}"),
            (Step::Starting(engine), true) => format!("启动 {engine}"),
            (Step::Starting(engine), false) => format!("starting {engine}"),
            (Step::Stopping(engine), true) => format!("停止 {engine}"),
            (Step::Stopping(engine), false) => format!("stopping {engine}"),
            (Step::Ready, _) => {
                self.bar.finish_and_clear();
                return;
            }
        };
        self.bar.set_message(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
