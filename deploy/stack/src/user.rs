//! Under root the database must run as somebody else; elsewhere as ourselves.

use crate::StackError;
use crate::process::run;
use std::path::Path;
use std::process::Command;

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user that the database runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// We are not root: as ourselves.
    Ourselves,
    /// We are root: as this user.
    Other { name: String, uid: u32, gid: u32 },
}

impl RunAs {
    /// Chooses the user: `MIANZHENG_PG_USER`, else `postgres` where that exists, else `nobody`.
    pub(crate) fn choose() -> Result<Self, StackError> {
        if !is_root() {
            return Ok(Self::Ourselves);
        }
        let wanted = std::env::var("MIANZHENG_PG_USER").ok();
        let candidates = match &wanted {
            Some(name) => vec![name.as_str()],
            None => vec!["postgres", "nobody"],
        };
        for name in &candidates {
            if let Some((uid, gid)) = lookup(name).filter(|(uid, _)| *uid != 0) {
                return Ok(Self::Other {
                    name: (*name).to_owned(),
                    uid,
                    gid,
                });
            }
        }
        Err(StackError::NoUser {
            user: candidates.join(", "),
        })
    }

    /// A command that runs `program` as this user.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self {
            Self::Ourselves => Command::new(program),
            Self::Other { uid, gid, .. } => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={uid}"))
                    .arg(format!("--regid={gid}"))
                    .args(["--clear-groups", "--"])
                    .arg(program)
                    // Root's environment is none of the database's business.
                    .env("HOME", "/")
                    .current_dir("/");
                command
            }
        }
    }

    /// Gives a directory (not what is in it) to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<(), StackError> {
        if let Self::Other { uid, gid, .. } = self {
            std::os::unix::fs::chown(path, Some(*uid), Some(*gid))
                .map_err(StackError::io("cannot give away", path))?;
        }
        Ok(())
    }

    /// Whether this user can enter the directory and write into it: asked by trying, because
    /// mode bits, ACLs and mount options all have a say.
    pub(crate) fn can_use(&self, dir: &Path, write: bool) -> bool {
        let mut command = self.command(Path::new("/bin/sh"));
        let test = if write {
            "cd \"$1\" && test -w ."
        } else {
            "cd \"$1\" && test -r ."
        };
        command.args(["-c", test, "sh"]).arg(dir);
        run(command, "sh").is_ok()
    }

    /// The name to show and to remember.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Ourselves => "",
            Self::Other { name, .. } => name,
        }
    }
}

fn lookup(name: &str) -> Option<(u32, u32)> {
    let mut command = Command::new("getent");
    command.args(["passwd", name]);
    let line = run(command, "getent")
        .or_else(|_| std::fs::read_to_string("/etc/passwd"))
        .ok()?;
    let line = line
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
