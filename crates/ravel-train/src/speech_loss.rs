//! How well a pipeline that speaks foretells the codes of recordings.

use ravel_heads::Timed;
use ravel_pipeline::{Prompt, SpeechParts};

use crate::align::aligned;
use crate::speech_lesson::{Lesson, Utterance, utterances, whole};
use crate::{Recording, TrainError};

/// Recordings that are measured at a time.
const TOGETHER: usize = 8;

/// Mean nats of a code of each codebook, told voice, speed and words; the end of each recording belongs to the first codebook. A model that
/// foretells durations is told those that an alignment of these recordings finds.
///
/// # Errors
/// [`TrainError`] if a text cannot be said or the tokenizer fails.
pub fn speech_loss(parts: &SpeechParts, recordings: &[Recording]) -> Result<Vec<f64>, TrainError> {
    let symbols: Result<Vec<Vec<u32>>, String> = recordings
        .iter()
        .map(|recording| whole(&parts.text, &recording.text))
        .collect();
    let symbols = symbols.map_err(|reason| TrainError::Recipe {
        path: parts.name.clone(),
        reason,
    })?;
    let mut all = utterances(recordings, symbols, &*parts.codec, &parts.device)?;
    if parts.model.durations.is_some() {
        aligned(&mut all, &mut [], |id| parts.text.is_mark(id));
    }
    all.sort_by_key(|utterance| utterance.frames);
    let mut sums = vec![(0.0, 0.0); parts.model.head.config().depth];
    let all: Vec<&Utterance> = all.iter().collect();
    for rows in all.chunks(TOGETHER) {
        for (sum, (nats, count)) in sums.iter_mut().zip(summed(parts, rows)) {
            sum.0 += nats;
            sum.1 += count;
        }
    }
    Ok(sums
        .iter()
        .map(|(nats, count)| nats / count.max(1.0))
        .collect())
}

fn summed(parts: &SpeechParts, rows: &[&Utterance]) -> Vec<(f64, f64)> {
    let prompts = rows.iter().map(|row| Prompt {
        ids: parts.text.ids(Some(&row.voice), &row.speed, &row.symbols),
        shown: Vec::new(),
    });
    let prompts: Vec<Prompt> = prompts.collect();
    let timed: Vec<Timed<'_>> = rows.iter().map(|row| row.timed()).collect();
    let lesson = Lesson::new(rows, parts.model.head.config(), &parts.device);
    let condition = parts.model.condition(&prompts, &parts.device);
    let condition = parts.model.timed(condition, &timed, lesson.codes.dims()[2]);
    let scores = parts.model.scores(lesson.codes.clone(), &condition);
    lesson.by_codebook(scores)
}
