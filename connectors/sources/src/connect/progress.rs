//! Shows how far a load is: a bar on a terminal, otherwise a line every few seconds. Short loads show
//! nothing.

use crate::limits::PROGRESS_EVERY;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mz_contract::{Lang, Reasons};
use mz_sdk::{Observer, Progress, Report};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// A load that is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(800);
/// Redraws of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(150);
/// Units of the bar, whatever the source counts in.
const BAR: u64 = 10_000;

/// Tells a person at the terminal, or a log.
pub struct Shown {
    stream: String,
    lang: Lang,
    reasons: Reasons,
    terminal: bool,
    bar: Option<ProgressBar>,
    started: Option<Instant>,
    told: Instant,
    trouble: Option<(&'static str, String)>,
    /// Say something after each pass (not when one summary follows anyway).
    each_pass: bool,
}

impl Shown {
    #[must_use]
    pub fn new(stream: &str, lang: Lang, reasons: Reasons, each_pass: bool) -> Self {
        Self {
            stream: stream.to_owned(),
            lang,
            reasons,
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            started: None,
            told: Instant::now(),
            trouble: None,
            each_pass,
        }
    }

    fn line(&self, progress: &Progress) -> String {
        let Progress {
            events,
            published,
            rejected,
            ..
        } = progress;
        match self.lang {
            Lang::Zh => format!(
                "{}：已读 {events}，发布 {published}，拒收 {rejected}",
                self.stream
            ),
            Lang::En => format!(
                "{}: {events} read, {published} published, {rejected} rejected",
                self.stream
            ),
        }
    }

    fn draw(&mut self, progress: &Progress) {
        let line = self.line(progress);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(BAR), ProgressDrawTarget::stderr());
            let template = if progress.read.is_some() {
                "{bar:30} {percent:>3}% {elapsed} ({eta}) {msg}"
            } else {
                "{spinner} {elapsed} {msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        match progress.read {
            Some((read, all)) if all > 0 => {
                // Below BAR: the fraction is at most one.
                bar.set_position(
                    (u128::from(read) * u128::from(BAR) / u128::from(all)).min(u128::from(BAR))
                        as u64,
                );
            }
            _ => bar.tick(),
        }
        bar.set_message(line);
    }
}

impl Observer for Shown {
    fn progress(&mut self, progress: &Progress) {
        self.trouble = None;
        let started = *self.started.get_or_insert_with(Instant::now);
        let every = if self.terminal {
            DRAW_EVERY
        } else {
            PROGRESS_EVERY
        };
        if started.elapsed() < PATIENCE.max(every) || self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        if self.terminal {
            self.draw(progress);
        } else {
            let share = match progress.read {
                Some((read, all)) if all > 0 => {
                    format!(" ({}%)", u128::from(read) * 100 / u128::from(all))
                }
                _ => String::new(),
            };
            eprintln!("{}{share}", self.line(progress));
        }
    }

    fn pass(&mut self, report: &Report) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.started = None;
        if self.each_pass && (report.published() > 0 || report.rejects() > 0) {
            tracing::info!(
                stream = self.stream,
                passes = report.passes,
                published = report.published(),
                rejected = report.rejects(),
                held = report.held,
                "pass read"
            );
        }
    }

    fn trouble(&mut self, code: &'static str, detail: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.started = None;
        // Said once, until something else happens.
        let same = self
            .trouble
            .as_ref()
            .is_some_and(|(known, about)| *known == code && about == detail);
        if !same {
            let text = self
                .reasons
                .render(code, self.lang, &[("field", ""), ("detail", detail)]);
            eprintln!("{}: {code} {text}", self.stream);
            self.trouble = Some((code, detail.to_owned()));
        }
    }
}
