//! Phonemes of American English as CMUdict writes them: 24 consonants, 15 vowels at three degrees of stress.

/// Consonants, then vowels.
const CONSONANTS: [&str; 24] = [
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T",
    "TH", "V", "W", "Y", "Z", "ZH",
];
const VOWELS: [&str; 15] = [
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW",
];

/// A phoneme: consonants first, then every vowel without stress, with the main and with a lesser one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phone(u8);

/// How many there are.
pub const PHONES: usize = CONSONANTS.len() + 3 * VOWELS.len();

impl Phone {
    /// The phoneme with this number, in `0..PHONES`.
    pub fn new(number: u8) -> Option<Self> {
        (usize::from(number) < PHONES).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The phoneme that CMUdict writes so: `B`, `AH0`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(at) = CONSONANTS.iter().position(|name| *name == text) {
            return Some(Self(at as u8));
        }
        let (name, stress) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let vowel = VOWELS.iter().position(|vowel| *vowel == name)?;
        let stress = stress.parse::<usize>().ok().filter(|stress| *stress < 3)?;
        Some(Self((CONSONANTS.len() + 3 * vowel + stress) as u8))
    }

    /// As CMUdict writes it.
    pub fn name(self) -> String {
        let at = usize::from(self.0);
        match at.checked_sub(CONSONANTS.len()) {
            None => CONSONANTS[at].into(),
            Some(vowel) => format!("{}{}", VOWELS[vowel / 3], vowel % 3),
        }
    }

    /// 1 for the main stress, 2 for a lesser one; consonants have none.
    pub fn stress(self) -> Option<u8> {
        let vowel = usize::from(self.0).checked_sub(CONSONANTS.len())?;
        Some((vowel % 3) as u8)
    }

    /// With another stress; consonants stay.
    pub fn stressed(self, stress: u8) -> Self {
        match self.stress() {
            Some(old) => Self(self.0 - old + stress.min(2)),
            None => self,
        }
    }

    /// Whether `-s` is voiceless after it, and whether it needs a vowel before it.
    pub(crate) fn before_s(self) -> (bool, bool) {
        let name = self.name();
        let name = name.as_str();
        (
            ["F", "K", "P", "T", "TH"].contains(&name),
            ["CH", "JH", "S", "SH", "Z", "ZH"].contains(&name),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for number in 0..PHONES as u8 {
            let phone = Phone::new(number).unwrap();
            assert_eq!(Phone::parse(&phone.name()), Some(phone));
        }
        assert_eq!(Phone::new(PHONES as u8), None);
        for wrong in ["", "A", "AH", "AH3", "b", "ÄH0"] {
            assert_eq!(Phone::parse(wrong), None, "{wrong}");
        }
        let stressed = Phone::parse("AH0").unwrap().stressed(1);
        assert_eq!(stressed.name(), "AH1");
    }
}
