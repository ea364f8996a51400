//! The command line: what can be typed. No work is done here.

mod grants;
mod ledger;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use grants::*;
pub use ledger::*;

/// Data sharing between departments, so that nobody carries a paper proof.
///
/// 部门之间共享数据,群众不再跑腿开证明。
#[derive(Debug, Parser)]
#[command(name = "mianzheng", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Directory of the installation (instance.yaml, contract, keys)
    #[arg(long, global = true, env = "MIANZHENG_DIR", default_value = ".local")]
    pub dir: PathBuf,

    /// Language of messages for people; otherwise taken from LC_ALL, LC_MESSAGES or LANG
    #[arg(long, global = true, value_enum)]
    pub lang: Option<LangArg>,

    /// Write log lines as JSON
    #[arg(long, global = true, env = "MIANZHENG_LOG_JSON")]
    pub log_json: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum LangArg {
    Zh,
    En,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new installation: copy the contract, choose ports, write instance.yaml
    Init(InitArgs),
    /// The local Kafka and PostgreSQL, without root or containers
    #[command(subcommand)]
    Stack(StackCommand),
    /// Make the local CA, certificates, signing keys and secret keys that are missing
    Keys(KeysArgs),
    /// Check the contract; every fault with file, line and field
    Lint(LintArgs),
    /// Sign, number and show the contract
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Decide past events once more under a changed contract, and show what would differ
    DryRun(DryRunArgs),
    /// Bring topics, ACLs and database schemas in line with the contract
    Apply(ApplyArgs),
    /// Publish a register: read, map, seal, send
    Connect(ConnectArgs),
    /// Run gateway slots: verify, decide, project, deliver, audit
    Gateway(GatewayArgs),
    /// Run vault slots and the HTTP API for evidence bundles and who-read
    Vault(ServeArgs),
    /// Run the read-only schema endpoint
    Console(ConsoleArgs),
    /// The audit log that proves itself: write it, verify it
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Feed deliveries into a department's own database
    Adapter(AdapterArgs),
    /// Print a department's own deliveries, each seal checked
    Read(ReadArgs),
    /// Ask for the evidence bundle of a service item
    Bundle(BundleArgs),
    /// Check an evidence bundle or a proof of an audit record offline
    Verify(VerifyArgs),
    /// Check the ledger against what a department holds, and cosign it
    Witness(WitnessArgs),
    /// Prove that an audit record is in the ledger (C2SP tlog-proof)
    Prove(ProveArgs),
    /// List who read what about one person
    WhoRead(WhoReadArgs),
    /// Consents: run their service, give, change, list, check a receipt
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// Cases: open, close, list
    #[command(subcommand)]
    Case(CaseCommand),
    /// Agreements: suspend, resume, terminate; the versions that were in force
    #[command(subcommand)]
    Agreement(AgreementCommand),
    /// Why a department gets, or doesn't get, each field about a person
    Why(WhyArgs),
    /// Deliveries that consumers must stop using, and their receipts
    Withdrawals(WithdrawalsArgs),
    /// A person as a whole
    #[command(subcommand)]
    Subject(SubjectCommand),
    /// Write the registers of a synthetic city
    Synth(SynthArgs),
    /// Measure against a baseline in the same run
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Read one workbook in a process of its own (started by `connect`)
    #[command(name = "__xlsx", hide = true)]
    Xlsx,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Contract to copy
    #[arg(long, default_value = "schemas")]
    pub contract: PathBuf,
    /// Put before every topic, group and transactional id
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// Gateway and vault slots
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: u32,
    /// An existing Kafka cluster, host:port[,host:port]
    #[arg(long)]
    pub bootstrap: Option<String>,
    /// Copies of each topic partition
    #[arg(long, default_value_t = 1)]
    pub replication: u16,
}

#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Download what is missing, start, wait until ready
    Up,
    /// What runs, where
    Status,
    /// Stop, keep the data
    Down,
    /// Stop and delete the data; downloads stay
    Reset,
}

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: Option<KeysCommand>,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// A new seal key for a department; the old one stays valid
    Rotate {
        #[arg(long)]
        department: String,
    },
    /// A new master key for the vault: wraps every person's key anew; running vaults stop
    RotateVault,
    /// Refuse a seal key from a batch on
    Revoke {
        #[arg(long)]
        department: String,
        /// Key id, as in the department's keys.yaml
        #[arg(long)]
        key: String,
        /// Last accepted batch of a stream: STREAM=EPOCH:BATCH; streams not named: none
        #[arg(long = "last")]
        last: Vec<String>,
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct LintArgs {
    /// Contract root; the installation's when absent
    pub root: Option<PathBuf>,
    /// Accept approvals that are not signed yet
    #[arg(long)]
    pub draft: bool,
}

#[derive(Debug, Subcommand)]
pub enum ContractCommand {
    /// Sign the approvals of one provider with its approval key
    Sign {
        #[arg(long)]
        department: String,
    },
    /// Allocate schema ids that are missing, in schema-ids.yaml
    Ids {
        /// Contract root; the installation's when absent
        root: Option<PathBuf>,
    },
    /// Put a new version in force: shows what changes, asks, waits until every lane decides under it
    Activate(Box<ActivateArgs>),
    /// Print the contract's digest
    Digest {
        /// Contract root; the installation's when absent
        root: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct DryRunArgs {
    /// Root of the changed contract; a draft is enough
    #[arg(long)]
    pub contract: PathBuf,
    /// Events published since: a day (2026-11-01, Beijing) or a length of time (7d, 12h)
    #[arg(long, default_value = "7d")]
    pub since: String,
    /// Only this agreement, for instance police/talent-settlement; may be given several times
    #[arg(long)]
    pub agreement: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Contract root that is about to be put in force, instead of the installation's; nobody's rights
    /// are taken away yet
    #[arg(long)]
    pub contract: Option<PathBuf>,
    /// Change nothing; exit 5 when cluster or database differ from the contract
    #[arg(long)]
    pub check: bool,
    /// Do not ask before changing
    #[arg(long, short)]
    pub yes: bool,
    /// Write the ACLs as kafka-acls commands to a file instead of applying them
    #[arg(long)]
    pub acls_out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Connector configuration (YAML)
    pub config: PathBuf,
    /// Stop when the source is read to its end
    #[arg(long)]
    pub once: bool,
    /// Show what would be published, publish nothing
    #[arg(long)]
    pub plan: bool,
    /// Begin a new epoch of the stream: the checkpoint was lost
    #[arg(long)]
    pub new_epoch: bool,
}

#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Own these slots for good (0,1,…) instead of joining the group
    #[arg(long, value_delimiter = ',')]
    pub slots: Vec<u32>,
    /// A name that a restarted process keeps, so that a quick restart moves no slot
    #[arg(long)]
    pub instance: Option<String>,
    /// Time between two commits of a busy slot, milliseconds
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=5000))]
    pub commit_ms: u64,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Own these slots for good (0,1,…) instead of joining the group
    #[arg(long, value_delimiter = ',')]
    pub slots: Vec<u32>,
    /// A name that a restarted process keeps, so that a quick restart moves no slot
    #[arg(long)]
    pub instance: Option<String>,
    /// Listen address of the HTTP API, instead of instance.yaml's
    #[arg(long)]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// Listen address, instead of instance.yaml's
    #[arg(long)]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// Adapter configuration (YAML)
    pub config: PathBuf,
    /// Stop when every delivery that was there at the start is in the database
    #[arg(long)]
    pub once: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Whose deliveries, for instance police
    #[arg(long)]
    pub department: String,
    /// Only this person: the department's pseudonym, 32 hex digits (a bundle names it)
    #[arg(long)]
    pub person: Option<String>,
    /// Only count: current records and deliveries of each topic
    #[arg(long)]
    pub count: bool,
    /// For people: fields by their titles, and what was withheld
    #[arg(long)]
    pub pretty: bool,
}

#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Service item, for instance talent-settlement
    #[arg(long)]
    pub item: String,
    /// Whose certificate asks, for instance police
    #[arg(long)]
    pub department: String,
    /// `-`: read the identity number from standard input; it is never an argument
    #[arg(long, conflicts_with = "case", required_unless_present = "case")]
    pub id: Option<String>,
    /// A case id, instead of an identity number
    #[arg(long)]
    pub case: Option<String>,
    /// Operator id of the clerk
    #[arg(long)]
    pub operator: String,
    /// Why the bundle is asked for
    #[arg(long)]
    pub reason: String,
    /// Write the A4 sheet (数据核验单) to this file
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Write the bundle to this file instead of standard output
    #[arg(long, short)]
    pub out: Option<PathBuf>,
    /// Print a readable summary instead of JSON
    #[arg(long)]
    pub pretty: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Evidence bundle (JSON), or a proof that `prove` or `ledger absence` made
    pub file: PathBuf,
    /// A proof of absence: `-`, whom it is about, from standard input
    #[arg(long)]
    pub id: Option<String>,
    /// Contract with the public keys; the installation's when absent
    #[arg(long)]
    pub contract: Option<PathBuf>,
    /// Print what a proof proves as one JSON object
    #[arg(long)]
    pub json: bool,
    /// A proof must also meet this policy (C2SP tlog-policy): logs, witnesses, quorum
    #[arg(long)]
    pub policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct WhoReadArgs {
    /// `-`: read the identity number from standard input; it is never an argument
    #[arg(long)]
    pub id: String,
    /// Why the auditor asks; recorded
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Operator id of the auditor
    #[arg(long, default_value = "")]
    pub operator: String,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SynthArgs {
    #[arg(long)]
    pub persons: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of dirty rows, per thousand
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub dirty: u32,
    /// Plant marks in every field that police must not see
    #[arg(long)]
    pub marks: bool,
    /// Day of the first export, YYYY-MM-DD; a fixed day when absent
    #[arg(long, value_parser = mz_city::parse_day)]
    pub as_of: Option<mz_city::NaiveDate>,
    /// The same city so many exports (days) later
    #[arg(long, default_value_t = 0)]
    pub snapshot: u32,
    /// Also load the property register into a database of its own on the installation's PostgreSQL
    #[arg(long)]
    pub load: bool,
    /// Where the registers are written
    pub out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// The gateway against a pass-through of the same shape
    Gateway {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Rounds of each, alternating
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
        rounds: u32,
        /// Events per throughput round
        #[arg(long)]
        events: Option<u64>,
        /// A case for one person in so many; without it, for everybody and then for one in 1,000
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        one_in: Option<u32>,
    },
    /// How long a new owner takes to load the grants, and what a decision with them costs
    Grants {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Grants that are published and loaded; about 220 bytes of disk each while it runs
        #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1_000..=200_000_000))]
        grants: u64,
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=1024))]
        lanes: u16,
    },
    /// From publishing to the row in a department's table, at a fixed rate
    Adapter {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Events a second
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
        /// Seconds that count
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// From asking for a revocation to its answer "enforced", under load; what came after is looked for
    Revoke {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Events a second
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
        /// Revocations, one after the other, and as many again by eight callers
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        revocations: u32,
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
        slots: u32,
    },
    /// The ledger beside a bare write and a bare COPY of the same; "who read" as the index grows
    Ledger {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Entries of each round
        #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1_000..=20_000_000))]
        entries: u64,
        /// Rows in the index at the end
        #[arg(long, default_value_t = 1_500_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
        rows: u64,
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
        rounds: u32,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn every_argument_is_well_defined() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_people_type_is_understood() {
        for line in [
            "mianzheng consent serve --listen 127.0.0.1:9000",
            "mianzheng consent give --agreement union/hardship-aid --valid-until 2027-11-25 --id - \
             --dataset a.v1 --dataset b.v1 --separate a.v1#x",
            "mianzheng consent give --agreement union/hardship-aid --valid-until 2027-11-25 --id - \
             --department union --operator U1 --document F-1 --representation guardian \
             --representation-document D --representation-until 2027-01-01",
            "mianzheng consent revoke 00112233445566778899aabbccddeeff --id - --wait-ms 5000",
            "mianzheng consent extend 00112233445566778899aabbccddeeff --id - --valid-until 2028-01-01",
            "mianzheng case open --agreement police/talent-settlement --id - --application A1 \
             --department police --operator H1 --reason r",
            "mianzheng case close 00112233445566778899aabbccddeeff --department police --operator H1",
            "mianzheng agreement suspend police/talent-settlement --reason r --operator S1",
            "mianzheng agreement versions --json",
            "mianzheng contract activate next --reason r --operator S1 --yes",
            "mianzheng why --id - --consumer union --purpose hardship-aid --json",
            "mianzheng withdrawals --open --as bus.security",
            "mianzheng subject erase --id - --reason r --operator S1",
            "mianzheng consent verify-receipt receipt.json --id -",
        ] {
            if let Err(fault) = parse(line) {
                panic!("{line}: {fault}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            // A representation without its document.
            "mianzheng consent give --agreement a/b --valid-until 2027-11-25 --id - --representation heir",
            // Two callers at once.
            "mianzheng withdrawals --as bus.auditor --department police",
            // Longer than the service waits.
            "mianzheng consent revoke 00 --wait-ms 30001",
            "mianzheng consent",
            "mianzheng subject",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
