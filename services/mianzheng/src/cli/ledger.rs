//! The ledger, its proofs, its witnesses: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// Whose deliveries, whose key
    #[arg(long)]
    pub department: String,
    /// Folder of the logs, or a copy of it; the installation's when absent
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Read the logs over the network instead: https://host:port of the bureau's console
    #[arg(long, conflicts_with = "folder")]
    pub url: Option<String>,
    /// With --url: keep full tiles in this folder, so that nothing is fetched twice (500 bytes an entry)
    #[arg(long, requires = "url")]
    pub keep: Option<PathBuf>,
    /// What it has seen; DIR/witness/DEPARTMENT when absent. Keep it: without it a fork is not seen
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// Look once and end
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args)]
pub struct ProveArgs {
    /// As in a delivery, a bundle or an answer of who-read: gateway-3-120
    #[arg(long)]
    pub audit_id: String,
    /// Where to write the proof (mode 0600); standard output when absent
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Folder of the logs; the installation's when absent
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Read the logs over the network instead: https://host:port of the bureau's console
    #[arg(long, conflicts_with = "folder", requires = "principal")]
    pub url: Option<String>,
    /// With --url, as which certificate: <department>.adapter, <department>.auditor, bus.auditor
    #[arg(long, requires = "url")]
    pub principal: Option<String>,
    /// Under the newest checkpoint that witnesses have cosigned, not the newest of all
    #[arg(long)]
    pub cosigned: bool,
}

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Run the ledger: log, commit, sign
    Serve(LedgerServeArgs),
    /// Each log: its name, size and tree head
    Status(LedgerViewArgs),
    /// Verify each log from its files; names whatever was altered, removed, inserted or reordered
    Audit(LedgerAuditArgs),
    /// Make the search index again, from the logs alone
    Reindex(LedgerViewArgs),
    /// Close what was logged since the last time, so that it can be proven what was not read
    Close(LedgerCloseArgs),
    /// Delete old records of bus.audit that the logs hold whole, committed and cosigned by a quorum
    Trim(LedgerTrimArgs),
    /// Prove offline-verifiably that a department read nothing about a person, or what it read; recorded
    Absence(LedgerAbsenceArgs),
    /// Drop whole months of the search index that are old enough and not held; the logs stay
    Expire {
        /// Day before which, UTC; at least three years ago
        #[arg(long)]
        before: String,
    },
    /// Keep a period of the search index from expiring; prints the hold's number
    Hold {
        /// First day, UTC
        #[arg(long)]
        from: String,
        /// Day after the last, UTC
        #[arg(long)]
        to: String,
        /// The case, by its number
        #[arg(long)]
        reason: String,
        #[arg(long)]
        operator: String,
    },
    /// End a hold
    Release {
        /// As `hold` printed it
        #[arg(long)]
        hold: i64,
        #[arg(long)]
        reason: String,
        #[arg(long)]
        operator: String,
    },
    /// Print a policy (C2SP tlog-policy): these logs, the departments' witnesses, so many of them
    Policy(LedgerPolicyArgs),
    /// Ask the search index; the question is recorded with who asked and why
    #[command(subcommand)]
    Ask(LedgerAsk),
    /// Keep a department's use of somebody's data from that person while an investigation runs
    #[command(subcommand)]
    Hide(LedgerHide),
}

#[derive(Debug, Subcommand)]
pub enum LedgerHide {
    /// Request it; hides nothing until another person has approved. Prints the request's number
    Request {
        /// `-`: read the identity number from standard input; it is never an argument
        #[arg(long)]
        id: String,
        /// Day (UTC) from which the person is shown everything again; within 180 days
        #[arg(long)]
        until: String,
        /// The legal ground and file number
        #[arg(long)]
        reason: String,
        #[arg(long)]
        operator: String,
        /// As which certificate: the department's window whose use it is
        #[arg(long)]
        principal: String,
    },
    /// Approve a request of somebody else's
    Approve {
        /// As `request` printed it
        #[arg(long)]
        number: i64,
        #[arg(long)]
        reason: String,
        #[arg(long)]
        operator: String,
        #[arg(long, default_value = "bus.security")]
        principal: String,
    },
    /// What waits for approval and what is in force
    List {
        #[arg(long)]
        operator: String,
        #[arg(long)]
        reason: String,
        /// As which certificate: bus.auditor, bus.security, or a department's
        #[arg(long, default_value = "bus.auditor")]
        principal: String,
        /// One JSON object a line
        #[arg(long, conflicts_with = "csv")]
        json: bool,
        /// Comma-separated, with a header
        #[arg(long)]
        csv: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum LedgerAsk {
    /// Everything that was done with one person's data
    WhoRead {
        /// `-`: read the identity number from standard input; it is never an argument
        #[arg(long)]
        id: String,
        /// Only what this department did
        #[arg(long)]
        consumer: Option<String>,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// What the person is shown: time, action, receiver, reason
    FindUsage {
        /// `-`: read the identity number from standard input; it is never an argument
        #[arg(long)]
        id: String,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// How often a department read what
    Department {
        #[arg(long)]
        consumer: String,
        #[arg(long, value_enum, default_value = "purpose")]
        by: UsedBy,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Which rules said no, how often
    Denials {
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Fields that were agreed and never delivered
    Unused {
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Entries a day of one agreement and dataset
    Rate {
        #[arg(long)]
        agreement: String,
        #[arg(long)]
        dataset: String,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Days above the agreed frequency, and agreed fields that were never delivered
    OverReach {
        /// Only this department's agreements
        #[arg(long)]
        consumer: Option<String>,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Records of source streams that nothing in the log accounts for, lane by lane
    Gaps {
        /// Only this department's registers
        #[arg(long)]
        provider: Option<String>,
        #[command(flatten)]
        asked: AskedArgs,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum UsedBy {
    Purpose,
    Dataset,
    Field,
    Day,
}

#[derive(Debug, Args)]
pub struct AskedArgs {
    /// Who asks: the auditor's own id
    #[arg(long)]
    pub operator: String,
    /// Why: a file number, a complaint
    #[arg(long)]
    pub reason: String,
    /// First day, UTC (2026-11-01); a year ago when absent
    #[arg(long)]
    pub from: Option<String>,
    /// Day after the last, UTC; tomorrow when absent
    #[arg(long)]
    pub to: Option<String>,
    /// As which certificate: bus.auditor, or a department's
    #[arg(long, default_value = "bus.auditor")]
    pub principal: String,
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Comma-separated, with a header
    #[arg(long)]
    pub csv: bool,
}

#[derive(Debug, Args)]
pub struct LedgerServeArgs {
    /// Run these shards (0,1,…) only; all of them when absent
    #[arg(long, value_delimiter = ',')]
    pub shards: Vec<u16>,
}

#[derive(Debug, Args)]
pub struct LedgerCloseArgs {
    /// Close these shards (0,1,…) only; all of them when absent
    #[arg(long, value_delimiter = ',')]
    pub shards: Vec<u16>,
    /// Also with people who have no label yet; nothing can be proven about that range then
    #[arg(long)]
    pub unbound: bool,
}

#[derive(Debug, Args)]
pub struct LedgerTrimArgs {
    /// These shards' lanes (0,1,…) only; all of them when absent
    #[arg(long, value_delimiter = ',')]
    pub shards: Vec<u16>,
    /// Records of so many days stay. A restored consent database must not be older
    #[arg(long, default_value_t = 30)]
    pub keep_days: u32,
    /// Wait so many seconds for the witnesses' cosignatures
    #[arg(long, default_value_t = 120)]
    pub wait: u64,
    /// Say what would go, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct LedgerAbsenceArgs {
    /// `-`: read the identity number from standard input; it is never an argument
    #[arg(long)]
    pub id: String,
    /// Whose reading; `bus` for the bureau's own
    #[arg(long)]
    pub department: String,
    /// First day (2026-11-01, UTC), or moment (2026-11-01T08:00:00+08:00)
    #[arg(long)]
    pub from: String,
    /// Day after the last, or moment
    #[arg(long)]
    pub to: String,
    /// Who asks: the auditor's own id
    #[arg(long)]
    pub operator: String,
    /// Why: a file number, a complaint
    #[arg(long)]
    pub reason: String,
    /// Only ranges that a quorum of witnesses cosigned
    #[arg(long)]
    pub cosigned: bool,
    /// Where to write the proof (mode 0600); standard output when absent
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Folder of the logs, or a copy of it; the installation's when absent
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Read the logs over the network instead: https://host:port of the bureau's console
    #[arg(long, conflicts_with = "folder")]
    pub url: Option<String>,
    /// As which certificate
    #[arg(long, default_value = "bus.auditor")]
    pub principal: String,
}

#[derive(Debug, Args)]
pub struct LedgerPolicyArgs {
    /// Witnesses that must have cosigned
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub quorum: u16,
    /// Departments whose witness counts; all of them when absent
    #[arg(long, value_delimiter = ',')]
    pub witnesses: Vec<String>,
    /// Folder of the logs; the installation's when absent
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LedgerAuditArgs {
    #[command(flatten)]
    pub view: LedgerViewArgs,
    /// Also hold every row and every sum of the search index against the logs
    #[arg(long)]
    pub index: bool,
}

#[derive(Debug, Args)]
pub struct LedgerViewArgs {
    /// Folder of the logs, or a copy of it; the installation's when absent
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}
