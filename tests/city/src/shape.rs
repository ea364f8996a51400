//! What happens to a family: who is in it, what it asks for and when. The first families are written by hand,
//! because tests and the demo tell their stories; chance shapes the others.

use crate::chance::{Chance, Draw};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    None,
    Own,
    Joint,
    /// In shares with the head of an earlier family.
    SharedWith(u64),
}

#[derive(Debug, Clone)]
pub struct Shape {
    pub role: Option<&'static str>,
    pub spouse: bool,
    pub children: u8,
    /// Registered in the city's household register from the start.
    pub resident: bool,
    pub approval: bool,
    /// The family settles with the applicant.
    pub dependents: bool,
    /// First snapshot that shows the booking, the revocation, the move-in permission.
    pub books_at: Option<u32>,
    pub cancelled: bool,
    pub revoked_at: Option<u32>,
    pub permitted_at: Option<u32>,
    pub home: Home,
    /// Insurance stopped before the first export, with arrears.
    pub lapsed: bool,
    pub rare_name: bool,
}

/// The move-in follows the permission, and the approval is used up after it.
pub const MOVES_AFTER: u32 = 1;
pub const USED_AFTER: u32 = 2;

const ALONE: Shape = Shape {
    role: None,
    spouse: false,
    children: 0,
    resident: false,
    approval: true,
    dependents: false,
    books_at: Some(0),
    cancelled: false,
    revoked_at: None,
    permitted_at: None,
    home: Home::Own,
    lapsed: false,
    rare_name: false,
};

const STORIES: &[Shape] = &[
    Shape {
        role: Some("settler"),
        permitted_at: Some(1),
        ..ALONE
    },
    Shape {
        role: Some("family"),
        spouse: true,
        children: 1,
        dependents: true,
        home: Home::Joint,
        ..ALONE
    },
    Shape {
        role: Some("no_home"),
        home: Home::None,
        ..ALONE
    },
    Shape {
        role: Some("no_case"),
        books_at: None,
        ..ALONE
    },
    Shape {
        role: Some("revoked_later"),
        revoked_at: Some(1),
        ..ALONE
    },
    Shape {
        role: Some("rare_name"),
        rare_name: true,
        ..ALONE
    },
    Shape {
        role: Some("outsider"),
        resident: true,
        approval: false,
        books_at: None,
        ..ALONE
    },
    Shape {
        role: Some("co_owner"),
        home: Home::SharedWith(6),
        ..ALONE
    },
    Shape {
        role: Some("lapsed"),
        home: Home::None,
        lapsed: true,
        ..ALONE
    },
    Shape {
        role: Some("books_later"),
        books_at: Some(1),
        ..ALONE
    },
];

impl Shape {
    pub fn of(seed: u64, family: u64) -> Self {
        if let Some(story) = STORIES.get(family as usize) {
            return story.clone();
        }
        let mut chance = Chance::of(seed, Draw::Shape, family);
        let spouse = chance.per_mille(620);
        let children = match chance.below(100) {
            _ if !spouse => 0,
            0..35 => 0,
            35..75 => 1,
            _ => 2,
        };
        let approval = chance.per_mille(450);
        let books_at = match chance.below(100) {
            _ if !approval => None,
            0..60 => Some(0),
            60..80 => Some(1 + chance.below(4) as u32),
            _ => None,
        };
        let cancelled = books_at.is_some() && chance.per_mille(30);
        let revoked_at = match chance.below(1000) {
            0..40 => Some(0),
            40..100 => Some(1 + chance.below(4) as u32),
            _ => None,
        };
        let may_move = revoked_at.is_none() && !cancelled && chance.per_mille(500);
        let home = match chance.below(100) {
            0..20 => Home::Own,
            20..40 if spouse => Home::Joint,
            40..43 => Home::SharedWith(chance.below(family)),
            _ => Home::None,
        };
        Self {
            role: None,
            spouse,
            children,
            resident: !approval || chance.per_mille(250),
            approval,
            dependents: spouse && chance.per_mille(650),
            books_at,
            cancelled,
            revoked_at,
            permitted_at: books_at
                .filter(|_| may_move)
                .map(|booked| booked + 1 + chance.below(3) as u32),
            home,
            lapsed: chance.per_mille(60),
            rare_name: false,
        }
    }

    pub fn booked(&self, snapshot: u32) -> bool {
        self.approval && self.books_at.is_some_and(|booked| booked <= snapshot)
    }

    pub fn permitted(&self, snapshot: u32) -> bool {
        self.permitted_at.is_some_and(|at| at <= snapshot)
    }

    pub fn moved(&self, snapshot: u32) -> bool {
        self.permitted_at
            .is_some_and(|at| at + MOVES_AFTER <= snapshot)
    }
}
