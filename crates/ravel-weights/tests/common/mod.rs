//! Files of `torch.save`, written opcode by opcode.
#![allow(dead_code)] // Each test program uses a part.

/// A pickle under construction.
#[derive(Clone, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn text(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).unwrap().to_le_bytes();
        self.op(b"X").op(&len).op(text.as_bytes())
    }

    pub fn int(self, number: i64) -> Self {
        let bytes = number.to_le_bytes();
        self.op(&[0x8a, 8]).op(&bytes)
    }

    pub fn tuple_of(self, items: &[i64]) -> Self {
        let marked = self.op(b"(");
        items
            .iter()
            .fold(marked, |pickle, &item| pickle.int(item))
            .op(b"t")
    }

    /// A tensor on storage `key` of `count` elements.
    pub fn tensor(
        self,
        class: &str,
        key: &str,
        count: i64,
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .int(count)
            .op(b"tQ")
            .int(offset)
            .tuple_of(shape)
            .tuple_of(strides)
            .op(&[0x89])
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }

    pub fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// A zip file of stored entries.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(entries, 0)
}

pub fn zip_with(entries: &[(&str, &[u8])], method: u16) -> Vec<u8> {
    let each: Vec<_> = entries
        .iter()
        .map(|&(name, data)| (name, data, method))
        .collect();
    zip_each(&each)
}

/// A zip file of entries that say how they are packed.
pub fn zip_each(entries: &[(&str, &[u8], u16)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data, method) in entries {
        let (local, size) = (bytes.len() as u32, data.len() as u32);
        let name_len = name.len() as u16;
        let middle = [
            &20u16.to_le_bytes()[..],
            &0u16.to_le_bytes(),
            &method.to_le_bytes(),
            &[0; 8],
            &size.to_le_bytes(),
            &size.to_le_bytes(),
            &name_len.to_le_bytes(),
            &0u16.to_le_bytes(),
        ]
        .concat();
        bytes.extend([&b"PK\x03\x04"[..], &middle, name.as_bytes(), data].concat());
        directory.extend(
            [
                &b"PK\x01\x02\0\0"[..],
                &middle,
                &[0; 10],
                &local.to_le_bytes(),
                name.as_bytes(),
            ]
            .concat(),
        );
    }
    let (start, count) = (bytes.len() as u32, entries.len() as u16);
    let size = directory.len() as u32;
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    bytes.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
    bytes.extend([0, 0]);
    bytes
}

/// A zip file of `torch.save` with one description and storages `0`, `1`, ….
pub fn torch(pickle: Vec<u8>, storages: &[&[u8]]) -> Vec<u8> {
    let names: Vec<String> = (0..storages.len())
        .map(|at| format!("archive/data/{at}"))
        .collect();
    let mut entries = vec![
        ("archive/data.pkl", pickle.as_slice()),
        ("archive/byteorder", b"little"),
    ];
    entries.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(storages.iter().copied()),
    );
    zip(&entries)
}

/// The older format: pickles one behind the other, then the storages.
pub fn legacy(pickle: Vec<u8>, storages: &[(u64, &[u8])]) -> Vec<u8> {
    let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let mut bytes = Pickle::new().op(&[0x8a, 10]).op(&magic).stop();
    bytes.extend(Pickle::new().op(&[b'M', 0xe9, 0x03]).stop());
    bytes.extend(
        Pickle::new()
            .op(b"}")
            .text("little_endian")
            .op(&[0x88, b's'])
            .stop(),
    );
    bytes.extend(pickle);
    let keys = Pickle::new().op(b"](");
    let keys = (0..storages.len()).fold(keys, |keys, at| keys.text(&at.to_string()));
    bytes.extend(keys.op(b"e").stop());
    for (count, data) in storages {
        bytes.extend(count.to_le_bytes());
        bytes.extend(*data);
    }
    bytes
}

/// Little-endian bytes of some f32.
pub fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
