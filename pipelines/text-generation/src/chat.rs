//! Chat templates: a conversation written out as the model was taught to read it.
//!
//! A template is Jinja in a `tokenizer_config.json` (`chat_template`, one or several by name) or in a file `chat_template.jinja`. It is
//! run as the `transformers` library runs it: blocks are trimmed, Python's string methods work, and `raise_exception`,
//! `strftime_now` and `tojson` are there. A template cannot open anything, and one that does not end is stopped.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use crate::Date;
use crate::python::method;

/// Steps after which a template is stopped.
const STEPS: u64 = 10_000_000;
/// Tokens by name that templates may write.
const TOKENS: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the model is told to be.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What keeps a conversation from being written out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The settings cannot be read.
    #[error("tokenizer_config.json: {0}")]
    Config(String),
    /// The model has no template: it was not made for conversations.
    #[error("this model has no chat template: it continues text and knows no conversations")]
    None,
    /// A name that no template has.
    #[error("no chat template `{name}`; there are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The template is no Jinja, or refuses the conversation.
    #[error("the chat template: {0}")]
    Template(String),
}

/// The templates of a model, by name, and its special tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChatTemplates {
    templates: BTreeMap<String, String>,
    tokens: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// The name of the template that is meant where none is named.
const DEFAULT: &str = "default";

impl ChatTemplates {
    /// Reads the text of a `tokenizer_config.json`; `apart` is that of a `chat_template.jinja`, which then counts.
    ///
    /// # Errors
    /// [`ChatError::Config`].
    pub fn parse(config: &str, apart: Option<&str>) -> Result<Self, ChatError> {
        let wrong = |error: serde_json::Error| ChatError::Config(error.to_string());
        let config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(config).map_err(wrong)?;
        let mut templates = BTreeMap::new();
        if let Some(written) = config.get("chat_template").filter(|value| !value.is_null()) {
            match serde_json::from_value(written.clone()).map_err(wrong)? {
                Written::One(template) => {
                    templates.insert(DEFAULT.to_string(), template);
                }
                Written::Several(all) => {
                    templates.extend(all.into_iter().map(|one| (one.name, one.template)));
                }
            }
        }
        if let Some(template) = apart {
            templates.insert(DEFAULT.to_string(), template.to_string());
        }
        // A token is its text, or a table with its text in it.
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => Some(text.clone()),
            other => other.get("content")?.as_str().map(String::from),
        };
        let tokens = TOKENS.iter().filter_map(|name| {
            let text = text(config.get(*name)?)?;
            Some((name.to_string(), text))
        });
        Ok(Self {
            templates,
            tokens: tokens.collect(),
        })
    }

    /// Whether there is any template.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// The conversation as a prompt, up to where the model's answer begins.
    ///
    /// `name` chooses a template where there are several; `date` is what the template takes for now.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn prompt(
        &self,
        messages: &[Message],
        name: Option<&str>,
        date: Date,
    ) -> Result<String, ChatError> {
        if self.is_empty() {
            return Err(ChatError::None);
        }
        let wanted = name.unwrap_or(DEFAULT);
        let only = self.templates.values().next().filter(|_| name.is_none());
        let template = self.templates.get(wanted).or(only);
        let template = template.ok_or_else(|| ChatError::Unknown {
            name: wanted.into(),
            known: self
                .templates
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        render(template, messages, &self.tokens, date)
    }
}

fn render(
    template: &str,
    messages: &[Message],
    tokens: &BTreeMap<String, String>,
    date: Date,
) -> Result<String, ChatError> {
    let wrong = |error: minijinja::Error| {
        let line = error
            .line()
            .map_or(String::new(), |line| format!("line {line}: "));
        let detail = error
            .detail()
            .map_or(error.kind().to_string(), String::from);
        ChatError::Template(line + &detail.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(wrong)?);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(STEPS));
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| date.format(&format));
    environment.add_filter("tojson", to_json);
    environment.add_template("chat", template).map_err(wrong)?;
    let mut context: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, text) in tokens {
        context.insert(name, text.into());
    }
    context.insert("messages", Value::from(Serde(messages)));
    context.insert("add_generation_prompt", true.into());
    let template = environment.get_template("chat").map_err(wrong)?;
    template.render(context).map_err(wrong)
}

/// JSON as Python writes it: a space after colons and commas, nothing escaped for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let wrong = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())
    };
    let indent: Option<usize> = options.get("indent")?;
    let value = serde_json::to_value(&value).map_err(wrong)?;
    let mut text = Vec::new();
    match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent);
            let pretty = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            let mut writer = serde_json::Serializer::with_formatter(&mut text, pretty);
            value.serialize(&mut writer).map_err(wrong)?;
        }
        None => {
            let mut writer = serde_json::Serializer::with_formatter(&mut text, Python);
            value.serialize(&mut writer).map_err(wrong)?;
        }
    }
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// JSON on one line with a space after colons and commas.
struct Python;

impl serde_json::ser::Formatter for Python {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
