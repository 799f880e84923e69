//! `ravel text`, and `ravel eval` of pipelines that make text.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ravel_decode::method::Tally;
use ravel_decode::{BeamConfig, ContrastiveSearch, DecodingConfig, SamplerConfig};
use serde_json::{Value, json};
use text_generation::{
    ChatError, ChatTemplates, Date, Message, Output, Prompt, Request, Role, TextGeneration, Token,
};

use crate::arguments::{
    Contrastive, DeviceName, EvalOptions, MethodOptions, TextOptions, WeightsOptions,
};
use crate::failure::Failure;
use crate::{interrupt, pipelines, progress, texts};

/// Prompts from files and standard input beyond this are not read.
const MOST_BYTES: u64 = 1 << 26;
/// What is measured where no file is named.
const HELD_OUT: &str = "data/novels/held-out.txt";

/// Makes a text.
pub fn run(options: &TextOptions) -> Result<(), Failure> {
    if let Some(path) = &options.prompts {
        return texts::run(options, path);
    }
    let given = given(options)?;
    if options.max_tokens == 0 {
        return Err(text_generation::Error::Nothing.into());
    }
    if given.is_empty() {
        return Err(text_generation::Error::Empty.into());
    }
    let pipeline = asked(options)?;
    let request = request(options, &pipeline, given, options.seed)?;
    let as_json = options.json || options.logprobs.is_some();
    let output = pipeline.run(&request, &mut |piece| {
        if !as_json {
            progress::write(piece.as_bytes());
        }
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    progress::say(&match as_json {
        true => object(&output, &request, &pipeline.parts().name).to_string(),
        false => String::new(),
    });
    match interrupt::asked() {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

/// The pipeline that is asked for, with what drafts for it.
pub fn asked(options: &TextOptions) -> Result<TextGeneration, Failure> {
    let pipeline = open(&options.pipeline, options.device.device, options.weights)?;
    match &options.method.draft {
        None => Ok(pipeline),
        Some(draft) => {
            let draft = pipelines::language(draft, options.device.device, options.weights)?;
            Ok(pipeline.with_draft(draft, options.method.draft_tokens)?)
        }
    }
}

/// What is asked for with a prompt.
pub fn request(
    options: &TextOptions,
    pipeline: &TextGeneration,
    given: String,
    seed: u64,
) -> Result<Request, Failure> {
    Ok(Request {
        prompt: prompt(options, pipeline, given)?,
        max_tokens: options.max_tokens,
        stop: options.stop.clone(),
        logprobs: options.logprobs,
        seed,
        sampler: sampler(&pipeline.parts().sampler, options)?,
        decoding: decoding(&pipeline.parts().decoding, &options.method),
    })
}

/// What is said on the command line, in a file or on standard input.
fn given(options: &TextOptions) -> Result<String, Failure> {
    let (mut text, shown) = match (&options.prompt, &options.file) {
        (Some(prompt), None) if prompt != "-" => return Ok(prompt.clone()),
        (_, Some(path)) => {
            let shown = path.display().to_string();
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::input(format!("{shown}: {error}")))?;
            (read(file, &shown)?, shown)
        }
        (Some(_), None) => {
            let shown = "standard input".to_string();
            (read(std::io::stdin(), &shown)?, shown)
        }
        (None, None) => {
            return Err(Failure::input_with(
                "there is no prompt",
                "say how the text begins: ravel text \"Once upon a time\"; or name a file: --file FILE, or `-` for standard input",
            ));
        }
    };
    if text.contains('\0') {
        return Err(Failure::input(format!(
            "{shown}: holds zero bytes, so it is no text"
        )));
    }
    // Some editors open a file with a mark of its encoding.
    if let Some(rest) = text.strip_prefix('\u{feff}') {
        text = rest.to_string();
    }
    // Editors and `echo` close a text with a line break that is no part of it.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

pub fn read(from: impl Read, shown: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Failure::input(format!(
            "{shown}: longer than {MOST_BYTES} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::input(format!("{shown}: not UTF-8 from byte {at} on"))
    })
}

fn prompt(
    options: &TextOptions,
    pipeline: &TextGeneration,
    given: String,
) -> Result<Prompt, Failure> {
    if !options.chat {
        return Ok(Prompt::Text(given));
    }
    let parts = pipeline.parts();
    let config = parts.chat.as_deref().unwrap_or("{}");
    let templates = ChatTemplates::parse(config, parts.template.as_deref())?;
    let system = options.system.clone().map(|content| Message {
        role: Role::System,
        content,
    });
    let asked = Message {
        role: Role::User,
        content: given,
    };
    let messages: Vec<Message> = system.into_iter().chain([asked]).collect();
    let written = templates.prompt(&messages, options.template.as_deref(), Date::now())?;
    Ok(Prompt::Chat(written))
}

/// The pipeline's settings with those that were given.
fn sampler(own: &SamplerConfig, given: &TextOptions) -> Result<SamplerConfig, Failure> {
    let config = SamplerConfig {
        temperature: given.temperature.unwrap_or(own.temperature),
        top_k: given.top_k.or(own.top_k),
        top_p: given.top_p.or(own.top_p),
        min_p: given.min_p.or(own.min_p),
        typical: given.typical.or(own.typical),
        repetition_penalty: given.repetition_penalty.or(own.repetition_penalty),
        ..own.clone()
    };
    config.validate()?;
    Ok(config)
}

/// The pipeline's method, or the one that was asked for.
fn decoding(own: &DecodingConfig, given: &MethodOptions) -> DecodingConfig {
    if let Some(beams) = given.beams {
        let default = BeamConfig::default();
        return DecodingConfig::BeamSearch(BeamConfig {
            beams,
            length_penalty: given.length_penalty.unwrap_or(default.length_penalty),
            ..default
        });
    }
    if let Some(Contrastive { candidates, alpha }) = given.contrastive {
        return DecodingConfig::ContrastiveSearch(ContrastiveSearch { candidates, alpha });
    }
    own.clone()
}

/// What is told of a text.
pub fn object(output: &Output, request: &Request, pipeline: &str) -> Value {
    let stop = match &output.finish {
        text_generation::Finish::Stop(stop) => Some(stop),
        _ => None,
    };
    let mut object = json!({
        "text": output.text,
        "finish": output.finish.name(),
        "prompt-tokens": output.prompt_tokens,
        "tokens": output.ids.len(),
        "pipeline": pipeline,
        "seed": request.seed,
        "sampler": request.sampler,
        "decoding": request.decoding,
    });
    if let Some(Tally { drafted, accepted }) = output.drafts {
        object["drafted"] = json!(drafted);
        object["accepted"] = json!(accepted);
    }
    if let Some(stop) = stop {
        object["stop"] = json!(stop);
    }
    if let Some(tokens) = &output.tokens {
        object["logprobs"] = tokens.iter().map(of_token).collect();
    }
    object
}

fn of_token(token: &Token) -> Value {
    let top = token.top.iter();
    let top = top.map(|(id, text, logprob)| json!({"id": id, "token": text, "logprob": logprob}));
    json!({
        "id": token.id,
        "token": token.text,
        "logprob": token.logprob,
        "top": top.collect::<Vec<_>>(),
    })
}

fn open(
    name: &str,
    device: DeviceName,
    weights: WeightsOptions,
) -> Result<TextGeneration, Failure> {
    Ok(TextGeneration::new(pipelines::language(
        name, device, weights,
    )?))
}

/// Measures how well a pipeline foretells a text.
pub fn evaluate(options: &EvalOptions) -> Result<(), Failure> {
    let path = options.data.clone();
    let path = path.unwrap_or_else(|| PathBuf::from(HELD_OUT));
    let shown = path.display().to_string();
    let text = read(open_file(&path)?, &shown)?;
    let pipeline = open(
        &options.pipeline.pipeline,
        options.pipeline.device.device,
        options.weights,
    )?;
    let bar = progress::bar(1000, options.quiet);
    let measure = pipeline
        .measure(&text, &mut |share| {
            bar.set_position((share * 1000.0) as u64);
            match interrupt::asked() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
        .map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    bar.finish_and_clear();
    let Some(measure) = measure else {
        return Err(Failure::Interrupted);
    };
    progress::say(&match options.json {
        true => json!({
            "tokens": measure.tokens,
            "bytes": measure.bytes,
            "nats-per-token": measure.nats_per_token,
            "perplexity": measure.perplexity,
            "bits-per-byte": measure.bits_per_byte,
        })
        .to_string(),
        false => format!(
            "{} tokens, {} bytes: {:.4} bits per byte, perplexity {:.2} per token",
            measure.tokens, measure.bytes, measure.bits_per_byte, measure.perplexity
        ),
    });
    Ok(())
}

fn open_file(path: &Path) -> Result<std::fs::File, Failure> {
    std::fs::File::open(path).map_err(|error| {
        Failure::input_with(
            format!("{}: {error}", path.display()),
            "name a text file with --data; `make data-text` builds the default one",
        )
    })
}

impl From<text_generation::Error> for Failure {
    fn from(error: text_generation::Error) -> Self {
        match error {
            text_generation::Error::Part(part) => part.into(),
            error => Self::input(error),
        }
    }
}

impl From<ChatError> for Failure {
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::None => Self::input_with(error, "leave --chat out"),
            error => Self::input(error),
        }
    }
}
