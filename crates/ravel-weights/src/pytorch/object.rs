//! What a pickle describes, as data. Nothing here is ever called.

use safetensors::Dtype;

use crate::header::one_line;

/// Place of an object on the heap.
pub(super) type Id = usize;

/// A value that a pickle describes.
#[derive(Debug, Clone)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i64),
    /// Two's complement, least significant byte first: what does not fit 64 bits.
    Long(Vec<u8>),
    Float,
    Text(String),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function by its full name.
    Global(String),
    /// Something of a class that is not rebuilt; only its state is kept, as data.
    Opaque {
        class: String,
        state: Option<Id>,
    },
    Storage(StorageRef),
    Tensor(TensorRef),
}

impl Object {
    /// Bytes that it has of its own, beyond its place on the heap.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Global(text) | Self::Opaque { class: text, .. } => text.len(),
            Self::Long(digits) => digits.len(),
            Self::Tuple(items) | Self::List(items) => items.len() * size_of::<Id>(),
            Self::Dict(pairs) => pairs.len() * size_of::<(Id, Id)>(),
            Self::Storage(storage) => storage.key.len(),
            Self::Tensor(tensor) => tensor.storage.key.len() + 2 * size_of_val(&tensor.shape[..]),
            _ => 0,
        }
    }
}

/// The type of a storage's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    Known(Dtype),
    /// Bytes; the tensor brings the type.
    Untyped,
    /// A type that is not read here, by name.
    Foreign(String),
}

/// A run of numbers in the file.
#[derive(Debug, Clone)]
pub(super) struct StorageRef {
    pub(super) element: Element,
    pub(super) key: String,
    /// Elements; bytes if untyped.
    pub(super) count: usize,
}

/// A tensor on a storage.
#[derive(Debug, Clone)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    pub(super) element: Element,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// All objects of a pickle, by place.
#[derive(Debug, Default)]
pub(super) struct Heap {
    objects: Vec<Object>,
    bytes: usize,
}

/// Objects that one pickle may describe; published ones have some hundred thousand.
const MAX_OBJECTS: usize = 8_000_000;
/// Bytes of names and lists in them: a small file can name a long text again and again.
const MAX_BYTES: usize = 1 << 30;
/// Axes of a tensor, as in PyTorch.
const MAX_RANK: usize = 64;
/// Bytes of the name of a class or storage.
pub(super) const MAX_NAME: usize = 512;

impl Heap {
    pub(super) fn add(&mut self, object: Object) -> Result<Id, String> {
        self.bytes = self.bytes.saturating_add(object.bytes());
        if self.objects.len() == MAX_OBJECTS || self.bytes > MAX_BYTES {
            return Err("it describes more objects than any checkpoint has".into());
        }
        self.objects.push(object);
        Ok(self.objects.len() - 1)
    }

    pub(super) fn get(&self, id: Id) -> &Object {
        &self.objects[id]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut Object {
        &mut self.objects[id]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter()
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    fn count(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) | Object::List(items) => Some(items),
            _ => None,
        }
    }

    fn counts(&self, id: Id) -> Option<Vec<usize>> {
        self.items(id)?
            .iter()
            .map(|&item| self.count(item))
            .collect()
    }

    /// What stands for `class(*arguments)`: a dictionary, a tensor, or something opaque.
    pub(super) fn reduced(&self, class: Id, arguments: Id) -> Result<Object, String> {
        let name = match self.get(class) {
            Object::Global(name) => name.as_str(),
            _ => return Err("it calls something that is no named class".into()),
        };
        let arguments = self
            .items(arguments)
            .ok_or("it calls something without arguments")?;
        let damaged = || format!("`{}` has arguments that make no tensor", one_line(name));
        match name {
            "collections.OrderedDict" | "builtins.dict" | "__builtin__.dict" => {
                Ok(Object::Dict(self.pairs(arguments)))
            }
            "collections.defaultdict" => Ok(Object::Dict(Vec::new())),
            "torch.Size" => Ok(Object::Tuple(match arguments {
                [sizes] => self.items(*sizes).unwrap_or_default().to_vec(),
                _ => Vec::new(),
            })),
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
                self.tensor(arguments, None).ok_or_else(damaged)
            }
            "torch._utils._rebuild_tensor_v3" => {
                let dtype = arguments.get(6).ok_or_else(damaged)?;
                self.tensor(arguments, Some(*dtype)).ok_or_else(damaged)
            }
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                match arguments.first().map(|&data| self.get(data)) {
                    Some(Object::Tensor(tensor)) => Ok(Object::Tensor(tensor.clone())),
                    _ => Err(damaged()),
                }
            }
            "torch._tensor._rebuild_from_type_v2" => match arguments {
                [class, _, arguments, ..] if self.rebuilds(*class) => {
                    self.reduced(*class, *arguments)
                }
                _ => Err(damaged()),
            },
            _ => Ok(Object::Opaque {
                class: name.into(),
                state: None,
            }),
        }
    }

    /// Whether it is one of the functions above that make a tensor, so that the recursion ends.
    fn rebuilds(&self, class: Id) -> bool {
        matches!(self.get(class), Object::Global(name) if name.starts_with("torch._utils._rebuild_"))
    }

    fn pairs(&self, arguments: &[Id]) -> Vec<(Id, Id)> {
        let pairs = arguments.first().and_then(|&pairs| self.items(pairs));
        let pair = |&pair: &Id| match self.items(pair) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        };
        pairs.unwrap_or_default().iter().filter_map(pair).collect()
    }

    /// Storage, offset, sizes, strides; the type is the storage's unless one is given.
    fn tensor(&self, arguments: &[Id], dtype: Option<Id>) -> Option<Object> {
        let [storage, offset, shape, strides, ..] = arguments else {
            return None;
        };
        let Object::Storage(storage) = self.get(*storage) else {
            return None;
        };
        let element = match dtype {
            None => storage.element.clone(),
            Some(dtype) => match self.get(dtype) {
                Object::Global(name) => element_of_dtype(name),
                _ => return None,
            },
        };
        let (shape, strides) = (self.counts(*shape)?, self.counts(*strides)?);
        (shape.len() == strides.len() && shape.len() <= MAX_RANK).then_some(())?;
        Some(Object::Tensor(TensorRef {
            storage: storage.clone(),
            element,
            offset: self.count(*offset)?,
            shape,
            strides,
        }))
    }

    /// What a persistent id stands for: `('storage', type, key, device, count)`.
    pub(super) fn storage(&self, id: Id) -> Result<Object, String> {
        let damaged = || "a reference to a storage is damaged".to_string();
        let parts = self.items(id).ok_or_else(damaged)?;
        let [word, class, key, _device, count, rest @ ..] = parts else {
            return Err(damaged());
        };
        let Object::Global(class) = self.get(*class) else {
            return Err(damaged());
        };
        let views = rest
            .iter()
            .any(|&rest| !matches!(self.get(rest), Object::None));
        if self.text(*word) != Some("storage") || views {
            return Err("it refers to something that is no plain storage".into());
        }
        let key = match self.get(*key) {
            Object::Text(key) if key.len() <= MAX_NAME => key.clone(),
            Object::Int(key) => key.to_string(),
            _ => return Err(damaged()),
        };
        Ok(Object::Storage(StorageRef {
            element: element_of_storage(class),
            key,
            count: self.count(*count).ok_or_else(damaged)?,
        }))
    }
}

fn element_of_storage(class: &str) -> Element {
    Element::Known(match class.rsplit('.').next().unwrap_or_default() {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        "ComplexFloatStorage" => Dtype::C64,
        "UntypedStorage" => return Element::Untyped,
        other => return Element::Foreign(other.into()),
    })
}

fn element_of_dtype(name: &str) -> Element {
    Element::Known(match name.strip_prefix("torch.").unwrap_or_default() {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        "complex64" => Dtype::C64,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        _ => return Element::Foreign(name.into()),
    })
}
