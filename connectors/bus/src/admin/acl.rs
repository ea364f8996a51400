//! One access rule of the cluster, as Kafka's authorizer keeps it.

use std::fmt;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    Topic,
    Group,
    Cluster,
    TransactionalId,
    /// A kind that this bus never grants; kept by its number so that it can be removed.
    Other(i8),
}

impl Resource {
    pub(crate) const fn number(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Group => 3,
            Self::Cluster => 4,
            Self::TransactionalId => 5,
            Self::Other(number) => number,
        }
    }

    pub(crate) const fn of(number: i8) -> Self {
        match number {
            2 => Self::Topic,
            3 => Self::Group,
            4 => Self::Cluster,
            5 => Self::TransactionalId,
            other => Self::Other(other),
        }
    }
}

/// How a rule's name is meant. The bus grants by literal names only; others exist so that they
/// can be found and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    Literal,
    Prefixed,
    Other(i8),
}

impl Pattern {
    pub(crate) const fn number(self) -> i8 {
        match self {
            Self::Literal => 3,
            Self::Prefixed => 4,
            Self::Other(number) => number,
        }
    }

    pub(crate) const fn of(number: i8) -> Self {
        match number {
            3 => Self::Literal,
            4 => Self::Prefixed,
            other => Self::Other(other),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    Read,
    Write,
    Describe,
    Other(i8),
}

impl Operation {
    pub(crate) const fn number(self) -> i8 {
        match self {
            Self::Read => 3,
            Self::Write => 4,
            Self::Describe => 8,
            Self::Other(number) => number,
        }
    }

    pub(crate) const fn of(number: i8) -> Self {
        match number {
            3 => Self::Read,
            4 => Self::Write,
            8 => Self::Describe,
            other => Self::Other(other),
        }
    }

    /// As `kafka-acls --operation` takes it.
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Describe => "Describe",
            Self::Other(2) => "All",
            Self::Other(5) => "Create",
            Self::Other(6) => "Delete",
            Self::Other(7) => "Alter",
            Self::Other(9) => "ClusterAction",
            Self::Other(10) => "DescribeConfigs",
            Self::Other(11) => "AlterConfigs",
            Self::Other(12) => "IdempotentWrite",
            Self::Other(_) => "Unknown",
        }
    }
}

/// One rule. `principal` is with its type: `User:police.adapter`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    pub principal: String,
    pub resource: Resource,
    pub name: String,
    pub pattern: Pattern,
    pub operation: Operation,
    pub allow: bool,
    pub host: String,
}

impl Acl {
    /// The only kind that the bus grants: one literal name, any host.
    pub fn grant(
        principal: &str,
        resource: Resource,
        name: impl Into<String>,
        operation: Operation,
    ) -> Self {
        Self {
            principal: format!("User:{principal}"),
            resource,
            name: name.into(),
            pattern: Pattern::Literal,
            operation,
            allow: true,
            host: "*".to_owned(),
        }
    }

    /// Arguments of `kafka-acls` that make this rule.
    pub fn command(&self) -> String {
        let resource = match self.resource {
            Resource::Topic => format!("--topic '{}'", self.name),
            Resource::Group => format!("--group '{}'", self.name),
            Resource::TransactionalId => format!("--transactional-id '{}'", self.name),
            Resource::Cluster | Resource::Other(_) => "--cluster".to_owned(),
        };
        let (side, host) = if self.allow {
            ("--allow-principal", "--allow-host")
        } else {
            ("--deny-principal", "--deny-host")
        };
        let pattern = match self.pattern {
            Pattern::Prefixed => " --resource-pattern-type prefixed",
            Pattern::Literal | Pattern::Other(_) => "",
        };
        let host = if self.host == "*" {
            String::new()
        } else {
            format!(" {host} '{}'", self.host)
        };
        format!(
            "{side} '{}'{host} --operation {} {resource}{pattern}",
            self.principal,
            self.operation.word()
        )
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.allow { "may" } else { "may not" };
        let kind = match self.resource {
            Resource::Topic => "topic",
            Resource::Group => "group",
            Resource::Cluster => "cluster",
            Resource::TransactionalId => "transactional id",
            Resource::Other(_) => "resource",
        };
        let pattern = match self.pattern {
            Pattern::Literal => "",
            Pattern::Prefixed | Pattern::Other(_) => "…",
        };
        let operation = self.operation.word();
        write!(
            f,
            "{} {verb} {operation} {kind} {}{pattern}",
            self.principal, self.name
        )?;
        if self.host != "*" {
            write!(f, " from {}", self.host)?;
        }
        Ok(())
    }
}
