//! Who may call which route: one table. It guards the routes, and a test writes it to docs/roles.md,
//! so that what people read is what holds.
//!
//! It knows certificates only. The services behind it look closer: a window changes what concerns its
//! own department, the portal only the grants of the person who acts.

use crate::principal::{BUS, Principal};

/// A kind of caller, told by the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `bus.portal`: the citizen's app, for the person who is signed in.
    Portal,
    /// `<dept>.window`: a department's counter.
    Window,
    /// `<dept>.auditor`, of any department.
    DepartmentAuditor,
    /// `bus.auditor`.
    Auditor,
    /// `bus.security`: the security administrator.
    Security,
    /// `<dept>.adapter`: a department's receiving end.
    Adapter,
    /// Any other certificate of the bus: connectors, services, the system administrator.
    Other,
}

/// All of them, in the order of the matrix.
pub const ROLES: [Role; 7] = [
    Role::Portal,
    Role::Window,
    Role::Adapter,
    Role::DepartmentAuditor,
    Role::Auditor,
    Role::Security,
    Role::Other,
];

impl Role {
    /// The one role of a principal.
    pub fn of(principal: &Principal) -> Self {
        match (principal.department() == BUS, principal.role()) {
            (true, "portal") => Self::Portal,
            (true, "auditor") => Self::Auditor,
            (true, "security") => Self::Security,
            (false, "window") => Self::Window,
            (false, "adapter") => Self::Adapter,
            (false, "auditor") => Self::DepartmentAuditor,
            _ => Self::Other,
        }
    }

    /// As the certificate names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portal => "bus.portal",
            Self::Window => "<dept>.window",
            Self::Adapter => "<dept>.adapter",
            Self::DepartmentAuditor => "<dept>.auditor",
            Self::Auditor => "bus.auditor",
            Self::Security => "bus.security",
            Self::Other => "others",
        }
    }
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// `POST`, or `GET` with `HEAD`.
    pub method: &'static str,
    pub path: &'static str,
    pub zh: &'static str,
    pub en: &'static str,
    pub roles: &'static [Role],
    /// What the service behind it looks at beside the role.
    pub only_zh: &'static str,
    pub only_en: &'static str,
}

impl Route {
    pub fn allows(&self, principal: &Principal) -> bool {
        self.roles.contains(&Role::of(principal))
    }
}

const ACTORS: &[Role] = &[Role::Portal, Role::Window];
/// Those, and whoever may stop a flow but never widen one.
const STOPPERS: &[Role] = &[Role::Portal, Role::Window, Role::Security];
const WINDOW: &[Role] = &[Role::Window];
const SECURITY: &[Role] = &[Role::Security];
const OVERSIGHT: &[Role] = &[Role::Auditor, Role::Security];
/// Who may hold the audit log against what they know.
const WITNESSES: &[Role] = &[Role::Adapter, Role::DepartmentAuditor, Role::Auditor];
const LOOKERS: &[Role] = &[Role::Portal, Role::Window, Role::Auditor, Role::Security];

macro_rules! method {
    () => {
        "POST"
    };
    (GET) => {
        "GET"
    };
}

macro_rules! routes {
    ($($name:ident: $($method:ident)? $path:literal, $roles:expr, $zh:literal, $en:literal, $only_zh:literal, $only_en:literal;)*) => {
        $(pub const $name: Route = Route {
            method: method!($($method)?),
            path: $path,
            zh: $zh,
            en: $en,
            roles: $roles,
            only_zh: $only_zh,
            only_en: $only_en,
        };)*
        /// Every route that is about people or changes something. Schemas and health are open to any
        /// certificate of the bus.
        pub const ROUTES: &[&Route] = &[$(&$name),*];
    };
}

routes! {
    BUNDLES: "/v1/bundles", WINDOW,
        "调取证明材料包", "ask for an evidence bundle",
        "办事项属于本部门", "service items of its own department";
    WHO_READ: "/v1/who-read", &[Role::Auditor, Role::DepartmentAuditor],
        "查询谁看过某人的信息", "ask who read about a person",
        "部门审计员只看本部门的读取", "a department's auditor sees what that department did";
    ASK_LEDGER: "/v1/ledger/ask", &[Role::Auditor, Role::DepartmentAuditor],
        "查询账本索引", "ask the ledger's index",
        "部门审计员只问本部门；查询本身入审计", "a department's auditor: about that department; the question is audited";
    FIND_USAGE: "/v1/ledger/find-usage", &[Role::Portal, Role::Auditor],
        "本人查询谁用过自己的信息（SOAP）", "show a person who used their data (SOAP)",
        "门户只限本人；审计员须注明事由；查询本身入审计", "the portal: the person who is signed in; an auditor with a reason; the question is audited";
    HIDE: "/v1/ledger/hide", WINDOW,
        "申请暂不向本人展示使用记录", "request that a use is kept from the person for a time",
        "只限本部门的使用；注明法律依据和截止日，最长180天；未经批准不生效", "its own department's use, with legal ground and end, 180 days at most; hides nothing until approved";
    APPROVE_HIDE: "/v1/ledger/hide/{number}/approve", SECURITY,
        "批准暂不展示", "approve it",
        "与申请人不同的证书和人员", "another certificate and another person than the requester";
    LIST_HIDES: "/v1/ledger/hide/list", &[Role::Window, Role::DepartmentAuditor, Role::Auditor, Role::Security],
        "列出待批准和生效中的暂不展示", "list requests that wait and hides in force",
        "部门只看自己的；查询本身入审计", "a department: its own; the question is audited";
    LOG_LIST: GET "/v1/ledger/logs", WITNESSES,
        "列出账本", "list the audit logs",
        "须为契约中的部门；读取留痕", "of a department in the contract; reading leaves a trace";
    LOG_FILE: GET "/v1/ledger/{shard}/{period}/{file}", WITNESSES,
        "读取账本文件（C2SP tlog-tiles），供见证", "read a file of an audit log (C2SP tlog-tiles), to witness it",
        "须为契约中的部门；只含已签检查点以内的内容；读取留痕", "of a department in the contract; only what a checkpoint is signed for; reading leaves a trace";
    GIVE: "/v1/consents/give", ACTORS,
        "登记同意", "give consent",
        "门户须附本人操作的签名证据；窗口只为本部门的协议，注明经办人和文书", "the portal with signed evidence of the person's act; a window for agreements of its own department, with operator and document";
    REVOKE: "/v1/grants/revoke", STOPPERS,
        "撤回同意", "revoke a consent",
        "门户只限本人；任何部门的窗口须核对本人号码；均须注明经办人", "the portal: the person's own; a window of any department with the person's number; with an operator";
    PAUSE: "/v1/grants/pause", STOPPERS,
        "暂停授权", "pause a grant",
        "同撤回；办件只限本部门", "as for revoking; cases: of its own department";
    RESUME: "/v1/grants/resume", ACTORS,
        "恢复授权", "resume a grant",
        "窗口只限本部门；恢复同意须有本人操作的证据", "a window: of its own department; a consent with evidence of the person's act";
    EXTEND: "/v1/grants/extend", ACTORS,
        "延长授权", "extend a grant",
        "窗口只限本部门；延长同意须有本人操作的证据", "a window: of its own department; a consent with evidence of the person's act";
    CLOSE: "/v1/grants/close", &[Role::Window, Role::Security],
        "结案", "close a case",
        "窗口只限本部门的办件", "a window: cases of its own department";
    LIST: "/v1/grants/list", LOOKERS,
        "查询某人的授权及其经过", "list a person's grants and their history",
        "窗口只看给予本部门的授权；查询本身入审计", "a window: grants to its own department; the question is audited";
    ENFORCEMENT: "/v1/grants/enforcement", &[Role::Portal, Role::Window, Role::Adapter, Role::Auditor, Role::Security],
        "查询变更是否已生效", "ask whether a change is enforced",
        "部门只问给予本部门的授权", "a department: grants to itself";
    OPEN_CASE: "/v1/cases/open", WINDOW,
        "立案", "open a case",
        "本部门的协议，且协议允许", "agreements of its own department that allow it";
    WHY: "/v1/why", LOOKERS,
        "查询某部门为何能（不能）看到某人的哪些字段", "ask why a department gets which fields about a person",
        "窗口只问本部门；查询本身入审计", "a window: about its own department; the question is audited";
    SUSPEND: "/v1/agreements/suspend", SECURITY,
        "中止共享协议", "suspend an agreement", "", "";
    RESUME_AGREEMENT: "/v1/agreements/resume", SECURITY,
        "恢复共享协议", "resume an agreement", "", "";
    TERMINATE: "/v1/agreements/terminate", SECURITY,
        "终止共享协议", "terminate an agreement", "", "";
    ACTIVATE: "/v1/contract/activate", SECURITY,
        "启用新契约", "put a contract in force",
        "须有各提供部门的有效签名", "with the providers' valid signatures";
    VERSIONS: "/v1/contract/versions", OVERSIGHT,
        "列出曾启用的契约版本", "list the versions that were in force", "", "";
    WITHDRAWALS: "/v1/withdrawals", &[Role::Window, Role::Adapter, Role::Auditor, Role::Security],
        "列出收回及回执", "list withdrawals and their receipts",
        "部门只看自己的", "a department: its own";
    ERASE: "/v1/subjects/erase", SECURITY,
        "删除某人的信息", "erase a person", "", "";
}

/// The matrix as a page.
pub fn matrix() -> String {
    let text = |zh: &str, en: &str| match (zh, en) {
        ("", "") => String::new(),
        (zh, en) => format!("{zh} · {en}"),
    };
    let mut page = String::from(
        "# Roles · 角色与接口\n\n\
         Which certificate may call which route. The table is the code's own (`services/console/src/roles.rs`);\n\
         a test writes this page. A route is `POST` unless it says `GET`, JSON (where SOAP is named: XML), mutual TLS; `<dept>` is any department. The last\n\
         column says what the service looks at beside the certificate. Schemas (`/schemas`, `/subjects`) and\n\
         `/health/*` answer any certificate of the bus.\n\n\
         哪种证书可以调用哪个接口。本表由代码生成，测试保证一致。others 指连接器、总线各服务和系统管理员。\n\
         系统管理员、安全管理员、审计员三权分立，不由同一人担任。\n\n",
    );
    page.push_str("| Route | What · 做什么 |");
    for role in ROLES {
        page.push_str(&format!(" `{}` |", role.name()));
    }
    page.push_str(" Only · 限于 |\n|---|---|");
    page.push_str(&":-:|".repeat(ROLES.len()));
    page.push_str("---|\n");
    for route in ROUTES {
        page.push_str(&format!(
            "| `{}{}` | {} |",
            if route.method == "GET" { "GET " } else { "" },
            route.path,
            text(route.zh, route.en)
        ));
        for role in ROLES {
            let mark = if route.roles.contains(&role) {
                "✓"
            } else {
                ""
            };
            page.push_str(&format!(" {mark} |"));
        }
        page.push_str(&format!(" {} |\n", text(route.only_zh, route.only_en)));
    }
    page
}
