//! Consents, cases, agreements in force, withdrawals, erasure: what can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Who asks, and how the answer is printed.
#[derive(Debug, Args, Clone)]
pub struct By {
    /// Whose certificate asks; otherwise the citizen portal, a counter (--department) or the bureau's
    /// own officer, as the command needs
    #[arg(long = "as", value_name = "PRINCIPAL")]
    pub principal: Option<String>,
    /// A counter of this department asks, with its window certificate
    #[arg(long, conflicts_with = "principal")]
    pub department: Option<String>,
    /// Operator id of whoever acts or asks; recorded
    #[arg(long)]
    pub operator: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// A change: recorded once under its request id, and waited for.
#[derive(Debug, Args, Clone)]
pub struct Asked {
    /// The same id again is the same request, never a second one; made up when absent
    #[arg(long)]
    pub request_id: Option<String>,
    /// How long to wait until the change holds everywhere, milliseconds
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=30_000))]
    pub wait_ms: Option<u64>,
}

/// What shows that the person acted.
#[derive(Debug, Args, Clone)]
pub struct Shown {
    /// At a counter: where the form that the person signed is filed
    #[arg(long)]
    pub document: Option<String>,
    /// In the app: its own name for the sign-in session
    #[arg(long)]
    pub session: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Run the consent service: grants, the revocation barrier, withdrawals, the contract in force
    Serve(ConsentServeArgs),
    /// Give consent for a person; the receipt goes to standard output or --out
    Give(Box<GiveArgs>),
    /// Revoke a consent: the answer says whether it holds everywhere
    Revoke(ChangeArgs),
    /// Pause a grant
    Pause(ChangeArgs),
    /// Resume a paused grant
    Resume(ChangeArgs),
    /// Let a grant run longer
    Extend(ExtendArgs),
    /// Ask again whether a change of a grant holds everywhere
    Enforcement(EnforcementArgs),
    /// List a person's grants
    List(AboutArgs),
    /// Show one grant of a person with its consent record
    Show(ShowArgs),
    /// List what was done to a person's grants, by whom and why
    History(AboutArgs),
    /// Check a consent receipt offline
    VerifyReceipt(ReceiptArgs),
}

#[derive(Debug, Args)]
pub struct ConsentServeArgs {
    /// Listen address, instead of instance.yaml's
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Name of this process in the database
    #[arg(long)]
    pub instance: Option<String>,
}

#[derive(Debug, Args)]
pub struct GiveArgs {
    /// Agreement that the person consents to: <consumer>/<purpose>
    #[arg(long)]
    pub agreement: String,
    /// Only this dataset, may be repeated; otherwise all of the agreement
    #[arg(long = "dataset")]
    pub datasets: Vec<String>,
    /// A sensitive field consented to separately: <dataset>#<field>, may be repeated
    #[arg(long)]
    pub separate: Vec<String>,
    /// Last day of the consent, YYYY-MM-DD
    #[arg(long)]
    pub valid_until: String,
    /// Version of the notice that the person was shown; the contract's when absent
    #[arg(long)]
    pub notice_version: Option<u32>,
    /// `-`: read the identity number from standard input; it is never an argument. With
    /// --representation the representative's is the second line
    #[arg(long)]
    pub id: String,
    #[command(flatten)]
    pub shown: Shown,
    /// Somebody acts for the person
    #[arg(
        long,
        value_enum,
        requires = "representation_document",
        requires = "representation_until"
    )]
    pub representation: Option<RepresentationArg>,
    /// The document that shows it
    #[arg(long)]
    pub representation_document: Option<String>,
    /// Its last day, YYYY-MM-DD
    #[arg(long)]
    pub representation_until: Option<String>,
    /// Write the person's receipt to this file (mode 0600)
    #[arg(long, short)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum RepresentationArg {
    Guardian,
    Heir,
    Agent,
}

#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// The grant, 32 hexadecimal digits
    pub grant: String,
    /// `-`: read the identity number from standard input; needed as the portal, and for resuming a
    /// consent
    #[arg(long)]
    pub id: Option<String>,
    /// Why, in the person's or the operator's words; recorded
    #[arg(long)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub shown: Shown,
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Args)]
pub struct ExtendArgs {
    #[command(flatten)]
    pub change: ChangeArgs,
    /// The new last day, YYYY-MM-DD
    #[arg(long)]
    pub valid_until: String,
}

#[derive(Debug, Args)]
pub struct EnforcementArgs {
    /// The grant, 32 hexadecimal digits
    pub grant: String,
    /// How long to wait until it holds everywhere, milliseconds
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=30_000))]
    pub wait_ms: Option<u64>,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Args)]
pub struct AboutArgs {
    /// `-`: read the identity number from standard input; it is never an argument
    #[arg(long)]
    pub id: String,
    /// Why it is asked; recorded
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The grant, 32 hexadecimal digits
    pub grant: String,
    #[command(flatten)]
    pub about: AboutArgs,
}

#[derive(Debug, Args)]
pub struct ReceiptArgs {
    /// Consent receipt (JSON)
    pub file: PathBuf,
    /// `-`: read the identity number from standard input, to check whose receipt it is
    #[arg(long)]
    pub id: Option<String>,
    /// Contract with the public keys; the installation's when absent
    #[arg(long)]
    pub contract: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum CaseCommand {
    /// Open a case: the applicant first, then everybody whose facts it needs
    Open(OpenCaseArgs),
    /// Close a case
    Close(ChangeArgs),
    /// List a person's cases
    List(AboutArgs),
}

#[derive(Debug, Args)]
pub struct OpenCaseArgs {
    /// Agreement under which it opens: <consumer>/<purpose>
    #[arg(long)]
    pub agreement: String,
    /// `-`: read the identity numbers from standard input, one a line, up to an empty line
    #[arg(long)]
    pub id: String,
    /// How many days it stays open; the agreement's number when absent
    #[arg(long)]
    pub days: Option<u32>,
    /// Number of the application
    #[arg(long)]
    pub application: String,
    /// Why; recorded
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Subcommand)]
pub enum AgreementCommand {
    /// Stop deliveries under an agreement until it is resumed
    Suspend(AgreementArgs),
    /// Let deliveries go on; what came meanwhile is sent
    Resume(AgreementArgs),
    /// End an agreement for good; what was delivered is withdrawn
    Terminate(AgreementArgs),
    /// Every version of the contract that was in force
    Versions(VersionsArgs),
}

#[derive(Debug, Args)]
pub struct AgreementArgs {
    /// <consumer>/<purpose>
    pub agreement: String,
    /// Why, for the file and for those concerned
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Args)]
pub struct VersionsArgs {
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// Contract root with the new version, signed; the installation's when absent
    pub root: Option<PathBuf>,
    /// Why; recorded
    #[arg(long)]
    pub reason: String,
    /// Do not ask before it is put in force
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Args)]
pub struct WhyArgs {
    /// `-`: read the identity number from standard input; it is never an argument
    #[arg(long)]
    pub id: String,
    /// The department that gets, or doesn't get, the data
    #[arg(long)]
    pub consumer: String,
    #[arg(long)]
    pub purpose: String,
    /// Why it is asked; recorded
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Args)]
pub struct WithdrawalsArgs {
    /// Only those without a receipt
    #[arg(long)]
    pub open: bool,
    /// Only of this agreement: <consumer>/<purpose>
    #[arg(long)]
    pub agreement: Option<String>,
    #[command(flatten)]
    pub by: By,
}

#[derive(Debug, Subcommand)]
pub enum SubjectCommand {
    /// Close a person's grants, withdraw what was delivered, destroy the key of their facts
    Erase(EraseArgs),
}

#[derive(Debug, Args)]
pub struct EraseArgs {
    /// `-`: read the identity number from standard input; it is never an argument
    #[arg(long)]
    pub id: String,
    /// Why; recorded
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub by: By,
}
