//! How fast frames follow one another, as a fraction.

use std::fmt;
use std::str::FromStr;

/// Frames a second, between a hundredth and a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// `numerator / denominator` frames a second in lowest terms, if that is between 1/100 and 1000.
    pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
        let divisor = divisor(numerator, denominator);
        if divisor == 0 || denominator == 0 {
            return None;
        }
        let per_second = f64::from(numerator) / f64::from(denominator);
        (0.01..=1000.0).contains(&per_second).then_some(Self {
            numerator: numerator / divisor,
            denominator: denominator / divisor,
        })
    }

    /// A rate that players know: whole numbers and those of NTSC (24000/1001 and its kin) win over what is 0.02 % beside them.
    pub fn near(per_second: f64) -> Option<Self> {
        let close = |to: f64| (per_second / to - 1.0).abs() < 2e-4;
        let whole = per_second.round();
        if !(0.01..=1000.0).contains(&per_second) {
            None
        } else if whole >= 1.0 && close(whole) {
            Self::new(whole as u32, 1)
        } else if [24.0, 30.0, 48.0, 60.0, 120.0].contains(&whole) && close(whole / 1.001) {
            Self::new(whole as u32 * 1000, 1001)
        } else {
            Self::new((per_second * 1000.0).round() as u32, 1000)
        }
    }

    /// Frames a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// Numerator and denominator, in lowest terms.
    pub fn fraction(self) -> (u32, u32) {
        (self.numerator, self.denominator)
    }
}

fn divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        b => divisor(b, a % b),
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            _ => {
                let text = format!("{:.3}", self.per_second());
                f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

impl FromStr for FrameRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = match text.split_once('/') {
            Some((numerator, denominator)) => numerator
                .parse()
                .ok()
                .zip(denominator.parse().ok())
                .and_then(|(numerator, denominator)| Self::new(numerator, denominator)),
            None => text.parse().ok().and_then(Self::near),
        };
        rate.ok_or_else(|| {
            "frames a second are expected, from 0.01 to 1000: `12`, `23.976` or `30000/1001`".into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let fraction = |text: &str| text.parse::<FrameRate>().map(FrameRate::fraction);
        assert_eq!(fraction("12"), Ok((12, 1)));
        assert_eq!(fraction("29.97"), Ok((30000, 1001)));
        assert_eq!(fraction("23.976"), Ok((24000, 1001)));
        assert_eq!(fraction("30000/1001"), Ok((30000, 1001)));
        assert_eq!(fraction("12.5"), Ok((25, 2)));
        for wrong in [
            "0", "-1", "nan", "inf", "1e9", "1/0", "0/1", "0/0", "fast", "",
        ] {
            assert!(fraction(wrong).is_err(), "{wrong}");
        }
        assert_eq!(FrameRate::near(29.97).unwrap().to_string(), "29.97");
        assert_eq!(FrameRate::near(12.0).unwrap().to_string(), "12");
    }
}
