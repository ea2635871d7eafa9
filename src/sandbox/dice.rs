//! Numbers that look random and are not: a text decides them. Pure.

/// Spreads the bits of a number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number that stands for a text (FNV-1a, spread).
pub fn hash(text: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// A stream of numbers that the seed decides.
#[derive(Debug)]
pub struct Dice {
    state: u64,
    steps: u32,
}

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed, steps: 0 }
    }

    /// Counts the values made so far, so that whoever makes them can stop.
    pub fn step(&mut self) -> u32 {
        self.steps += 1;
        self.steps
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    /// A number in 0..1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
