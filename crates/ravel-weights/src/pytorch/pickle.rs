//! A pickle read as a description. The opcodes are those of Python's `pickletools`; the ones that would call or import something
//! only note down what they name, and unknown ones end the reading.

use std::collections::HashMap;

use super::globals;
use super::object::{Heap, Id, Object};

/// Values that may wait to be put together.
const MAX_STACK: usize = 16_000_000;

/// What one pickle describes, and how many bytes it takes.
pub(super) struct Pickle {
    pub(super) heap: Heap,
    pub(super) root: Id,
    pub(super) len: usize,
}

/// Reads the pickle at the start of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
    };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok(Pickle {
        heap: machine.heap,
        root,
        len: machine.at,
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Id>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
    heap: Heap,
}

impl<'a> Machine<'a> {
    /// One opcode; false at the end.
    fn step(&mut self) -> Result<bool, String> {
        let op = self.take(1)?[0];
        match op {
            b'.' => return Ok(false),
            0x80 => _ = self.take(1)?,
            0x95 => _ = self.take(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?,
            b'1' => _ = self.pop_mark()?,
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'N' => self.push(Object::None)?,
            0x88 | 0x89 => self.push(Object::Bool(op == 0x88))?,
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'I' | b'L' | b'G' | b'F' => self.number(op)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'S' | b'V' | b'B' | b'C' | 0x8e => {
                self.string(op)?
            }
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => {
                self.container(op)?
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(op)?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.remember(op)?,
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.build(op)?,
            _ => {
                return Err(format!(
                    "opcode {op:#04x} at byte {} is none that weights need",
                    self.at - 1
                ));
            }
        }
        Ok(true)
    }

    fn number(&mut self, op: u8) -> Result<(), String> {
        let number = match op {
            b'J' => Object::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Object::Int(self.array::<1>()?[0].into()),
            b'M' => Object::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => {
                self.take(8)?;
                Object::Float
            }
            0x8a | 0x8b => {
                let len = self.length(if op == 0x8a { 1 } else { 4 })?;
                long(self.take(len)?)
            }
            b'F' => {
                self.line()?;
                Object::Float
            }
            _ => match self.line()?.trim_end_matches('L') {
                "00" if op == b'I' => Object::Bool(false),
                "01" if op == b'I' => Object::Bool(true),
                digits => Object::Int(digits.parse().map_err(|_| "a number is damaged")?),
            },
        };
        self.push(number)
    }

    fn string(&mut self, op: u8) -> Result<(), String> {
        let len_bytes = match op {
            b'S' | b'V' => {
                let line = self.line()?;
                let text = if op == b'S' { unquoted(line)? } else { line };
                let text = Object::Text(text.into());
                return self.push(text);
            }
            0x8c | b'U' | b'C' => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        };
        let len = self.length(len_bytes)?;
        let bytes = self.take(len)?;
        if matches!(op, b'B' | b'C' | 0x8e) {
            return self.push(Object::Bytes);
        }
        let text = match (std::str::from_utf8(bytes), op) {
            (Ok(text), _) => text.into(),
            // Strings of Python 2 are bytes of any kind.
            (Err(_), b'T' | b'U') => bytes.iter().map(|&byte| char::from(byte)).collect(),
            (Err(_), _) => return Err("a text is no UTF-8".into()),
        };
        self.push(Object::Text(text))
    }

    fn container(&mut self, op: u8) -> Result<(), String> {
        let container = match op {
            b')' => Object::Tuple(Vec::new()),
            b't' | 0x91 => Object::Tuple(self.pop_mark()?),
            0x85..=0x87 => Object::Tuple(self.pop_many(usize::from(op - 0x84))?),
            b']' | 0x8f => Object::List(Vec::new()),
            b'l' => Object::List(self.pop_mark()?),
            b'd' => Object::Dict(pairs(&self.pop_mark()?)?),
            _ => Object::Dict(Vec::new()),
        };
        self.push(container)
    }

    /// Adds to the list or dictionary below; what is opaque stays so.
    fn fill(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b'a' => self.pop_many(1)?,
            b's' => self.pop_many(2)?,
            _ => self.pop_mark()?,
        };
        let below = self.top()?;
        match (self.heap.get_mut(below), op) {
            (Object::List(list), b'a' | b'e' | 0x90) => list.extend(items),
            (Object::Dict(dict), b's' | b'u') => dict.extend(pairs(&items)?),
            (Object::Opaque { .. }, _) => {}
            _ => return Err("it adds items to something that holds none".into()),
        }
        Ok(())
    }

    fn remember(&mut self, op: u8) -> Result<(), String> {
        let place = match op {
            b'q' | b'h' => self.length(1)?,
            b'r' | b'j' => self.length(4)?,
            0x94 => self.memo.len(),
            _ => self
                .line()?
                .parse()
                .map_err(|_| "a memo place is damaged")?,
        };
        if matches!(op, b'g' | b'h' | b'j') {
            let known = self
                .memo
                .get(&place)
                .ok_or("it refers to something that it never named")?;
            self.push_id(*known)?;
        } else {
            let top = self.top()?;
            self.memo.insert(place, top);
        }
        Ok(())
    }

    fn build(&mut self, op: u8) -> Result<(), String> {
        let made = match op {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Object::Global(globals::allowed(module, name)?)
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let text = |id| self.heap.text(id).ok_or("a class has no name");
                Object::Global(globals::allowed(text(names[0])?, text(names[1])?)?)
            }
            b'R' | 0x81 => {
                let call = self.pop_many(2)?;
                self.heap.reduced(call[0], call[1])?
            }
            0x92 => {
                let call = self.pop_many(3)?;
                self.heap.reduced(call[0], call[1])?
            }
            b'Q' => {
                let id = self.pop()?;
                self.heap.storage(id)?
            }
            _ => {
                let given = self.pop()?;
                let below = self.top()?;
                if let Object::Opaque { state, .. } = self.heap.get_mut(below) {
                    *state = Some(given);
                }
                return Ok(());
            }
        };
        self.push(made)
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        let id = self.heap.add(object)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), String> {
        if self.stack.len() == MAX_STACK {
            return Err("it piles up more than any checkpoint does".into());
        }
        self.stack.push(id);
        Ok(())
    }

    /// The lowest height that may be taken from: what lies under the last mark is another's.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let from = self
            .stack
            .len()
            .checked_sub(count)
            .filter(|&from| from >= self.floor());
        Ok(self
            .stack
            .split_off(from.ok_or("it takes more than it gave")?))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self
            .marks
            .pop()
            .ok_or("it goes back to a mark that is not there")?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Id, String> {
        let top = self.stack[self.floor()..].last();
        top.copied()
            .ok_or_else(|| "it takes more than it gave".into())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("its description breaks off (half a download?)")?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(*self.take(N)?.first_chunk().expect("take gave N bytes"))
    }

    /// A length of so many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(wide))
            .map_err(|_| "a length is beyond any memory".into())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("its description breaks off (half a download?)")?)?;
        self.at += 1;
        let line = std::str::from_utf8(line).map_err(|_| "a name is no UTF-8")?;
        Ok(line.trim_end_matches('\r'))
    }
}

fn long(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::Long(bytes.into());
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if negative { 0xFF } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Object::Int(i64::from_le_bytes(wide))
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    if !items.len().is_multiple_of(2) {
        return Err("a dictionary has a key without a value".into());
    }
    Ok(items
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

fn unquoted(line: &str) -> Result<&str, String> {
    let inner = |quote| line.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'')
        .or_else(|| inner('"'))
        .ok_or_else(|| "a text has no quotes".into())
}
