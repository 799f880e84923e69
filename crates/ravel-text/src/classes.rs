//! The classes that a model was trained on, by name or by number.
//!
//! A file of classes has one line per class, in the order of their numbers: an id (WordNet's, `n02099601`), a tab, and the class's
//! names, separated by commas, the usual one first.

use crate::TextError;

/// Names that are offered in place of one that no class has.
const OFFERED: usize = 4;
/// Shares of letters that agree, below which a name is no help.
const NEAR: f64 = 0.5;

/// What models of classes can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    classes: Vec<Class>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    id: String,
    /// As the file writes them, at least one.
    names: Vec<String>,
}

impl Classes {
    /// Reads a file of classes; `shown` stands for it in messages.
    ///
    /// # Errors
    /// [`TextError::Classes`] names the first line that is no class.
    pub fn from_bytes(bytes: &[u8], shown: &str) -> Result<Self, TextError> {
        let wrong = |reason: String| TextError::Classes {
            path: shown.into(),
            reason,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("not UTF-8".into()))?;
        let classes = text.lines().enumerate().map(|(at, line)| {
            Class::read(line).ok_or_else(|| {
                wrong(format!(
                    "line {}: an id, a tab and names are expected",
                    at + 1
                ))
            })
        });
        let classes: Vec<Class> = classes.collect::<Result<_, _>>()?;
        match classes.is_empty() {
            true => Err(wrong("no line".into())),
            false => Ok(Self { classes }),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is none; never, for what was read from a file.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The usual name of a class.
    pub fn name(&self, number: usize) -> Option<&str> {
        let class = self.classes.get(number)?;
        class.names.first().map(String::as_str)
    }

    /// The number of a class that is said by number, by id or by one of its names, in any case.
    ///
    /// Of several classes with one name it is the one that is usually called so.
    ///
    /// # Errors
    /// [`TextError::Empty`]; [`TextError::NoClass`] offers near names; [`TextError::SeveralClasses`] offers the numbers of those that
    /// share a name.
    pub fn find(&self, said: &str) -> Result<usize, TextError> {
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.is_empty() {
            return Err(TextError::Empty);
        }
        if said.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = said.parse().ok().filter(|&number| number < self.len());
            return number.ok_or_else(|| TextError::NoClassNumber {
                number: said,
                last: self.len() - 1,
            });
        }
        let lower = said.to_lowercase();
        // Exactly as written, then in any case: all names of a class, its usual one, any one.
        let ways: [&dyn Fn(&Class) -> bool; 6] = [
            &|class| class.label() == said,
            &|class| class.names[0] == said,
            &|class| class.names.contains(&said),
            &|class| class.label().to_lowercase() == lower,
            &|class| class.names[0].to_lowercase() == lower,
            &|class| class.names.iter().any(|name| name.to_lowercase() == lower),
        ];
        for way in ways {
            let found: Vec<usize> = (0..self.len())
                .filter(|&number| way(&self.classes[number]))
                .collect();
            match found[..] {
                [] => {}
                [one] => return Ok(one),
                _ => return Err(self.several(&said, &found)),
            }
        }
        let id = self.classes.iter().position(|class| class.id == lower);
        id.ok_or_else(|| TextError::NoClass {
            near: self.near(&lower),
            name: said,
        })
    }

    fn several(&self, name: &str, numbers: &[usize]) -> TextError {
        let shown = |&number: &usize| format!("{number} ({})", self.classes[number].label());
        TextError::SeveralClasses {
            name: name.into(),
            numbers: numbers.iter().map(shown).collect(),
        }
    }

    /// Names that hold the words, then those with most letters in common, with their numbers.
    fn near(&self, lower: &str) -> Vec<String> {
        let scored = self.classes.iter().enumerate().flat_map(|(number, class)| {
            class.names.iter().map(move |name| {
                let theirs = name.to_lowercase();
                let holds = theirs.split([' ', '-']).any(|word| word == lower);
                let alike = strsim::normalized_damerau_levenshtein(lower, &theirs);
                (alike + f64::from(holds), number, name)
            })
        });
        let mut scored: Vec<_> = scored.filter(|(score, ..)| *score >= NEAR).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut taken = std::collections::BTreeSet::new();
        scored.retain(|&(_, number, _)| taken.insert(number));
        let shown = scored.iter().take(OFFERED);
        shown
            .map(|(_, number, name)| format!("{name} ({number})"))
            .collect()
    }
}

impl Class {
    fn read(line: &str) -> Option<Self> {
        let (id, names) = line.split_once('\t')?;
        let names: Vec<String> = names.split(',').map(|name| name.trim().into()).collect();
        let whole = !id.trim().is_empty() && names.iter().all(|name| !name.is_empty());
        whole.then(|| Self {
            id: id.trim().to_lowercase(),
            names,
        })
    }

    /// All its names.
    fn label(&self) -> String {
        self.names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: &str = "n1\ttench, Tinca tinca\nn2\tcrane\nn3\tcrane\nn4\tCardigan, Welsh corgi\nn5\tcardigan\n\
                       n6\tgolden retriever\nn7\tprojectile, missile\nn8\tmissile\n";

    fn few() -> Classes {
        Classes::from_bytes(FEW.as_bytes(), "few.tsv").unwrap()
    }

    #[test]
    fn classes_are_found_by_number_id_and_name() {
        let classes = few();
        for (said, number) in [
            ("0", 0),
            ("007", 7),
            ("n6", 5),
            ("N6", 5),
            ("tench", 0),
            ("tinca  TINCA", 0),
            ("Cardigan", 3),
            ("cardigan", 4),
            ("welsh corgi", 3),
            ("missile", 7),
            ("projectile, missile", 6),
            (" Golden Retriever\n", 5),
        ] {
            assert_eq!(classes.find(said), Ok(number), "{said}");
        }
        assert_eq!((classes.len(), classes.name(6)), (8, Some("projectile")));
    }

    #[test]
    fn what_is_no_class_is_told_with_near_names() {
        let classes = few();
        let line = |said: &str| classes.find(said).unwrap_err().to_string();
        assert!(line("golden retreiver").contains("golden retriever (5)"));
        assert!(line("corgi").contains("Welsh corgi (3)"));
        assert!(line("crane").contains("1 (crane)") && line("crane").contains("2 (crane)"));
        assert!(line("8").contains("0 to 7"), "{}", line("8"));
        assert!(line("99999999999999999999").contains("0 to 7"));
        assert_eq!(classes.find(" \t"), Err(TextError::Empty));
        assert!(!line("xyzzy").contains("near"), "{}", line("xyzzy"));
    }

    #[test]
    fn files_that_hold_no_classes_are_refused() {
        for (text, place) in [
            ("", "no line"),
            ("n1\ta\n\n", "line 2"),
            ("n1 a\n", "line 1"),
            ("n1\ta,,b\n", "line 1"),
            ("\ta\n", "line 1"),
        ] {
            let error = Classes::from_bytes(text.as_bytes(), "few.tsv").unwrap_err();
            assert!(error.to_string().contains(place), "{error}");
        }
        assert!(Classes::from_bytes(&[0xff, b'\t'], "few.tsv").is_err());
    }
}
