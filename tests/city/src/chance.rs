//! Reproducible chance: a value depends on the seed and on what it is for, never on what was drawn before
//! it, so any record can be made again on its own, in any order and in constant memory.
//! (SplitMix64, not `rand`: its generators may change between versions, and bytes must not.)

#[derive(Debug, Clone)]
pub struct Chance(u64);

/// What is drawn; the first part of every key, so that two draws never share their bits.
#[derive(Debug, Clone, Copy)]
pub enum Draw {
    Shape = 1,
    Name,
    Number,
    Approval,
    Insurance,
    Right,
    Household,
    Booking,
    Employer,
    Dirt,
    Change,
    Address,
    Hardship,
    MinLiving,
}

impl Chance {
    pub fn of(seed: u64, draw: Draw, key: u64) -> Self {
        let mut state = mix(seed ^ 0x6d69_616e_7a68_656e);
        state = mix(state ^ (draw as u64));
        Self(mix(state ^ key))
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0..bound` up to a bias of `bound / 2^64`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as u64) as i64
    }

    pub fn per_mille(&mut self, share: u32) -> bool {
        self.below(1000) < u64::from(share)
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A bijection on `0..size`: no two people of a class may get one number, without keeping a set of millions.
pub fn permute(seed: u64, class: u64, index: u64, size: u64) -> u64 {
    let mut chance = Chance::of(seed, Draw::Number, class);
    let shift = chance.below(size);
    let mut step = chance.below(size) | 1;
    while gcd(step, size) != 1 {
        step = (step + 2) % size;
    }
    ((u128::from(step) * u128::from(index % size) + u128::from(shift)) % u128::from(size)) as u64
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_meets_every_value_once() {
        let mut seen = vec![false; 1500];
        for index in 0..1500 {
            let value = permute(7, 1, index, 1500) as usize;
            assert!(!std::mem::replace(&mut seen[value], true));
        }
    }
}
