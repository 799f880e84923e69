//! How well a pipeline that speaks foretells the codes of recordings.

use ravel_core::Layout;
use ravel_pipeline::SpeechParts;

use crate::speech::{Lesson, Utterance, condition, utterances, whole};
use crate::{Recording, TrainError};

/// Recordings that are measured at a time.
const TOGETHER: usize = 8;

/// Mean nats of a code of each codebook, told voice, speed and words; the end of each recording belongs to the first codebook.
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
    all.sort_by_key(|utterance| utterance.frames);
    let mut sums = vec![(0.0, 0.0); parts.head.config().depth];
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
    let ids = rows
        .iter()
        .map(|row| parts.text.ids(Some(&row.voice), &row.speed, &row.symbols));
    let (ids, config) = (ids.collect::<Vec<_>>(), parts.head.config());
    let condition = condition(&parts.prefix, &ids, config, &parts.device);
    let lesson = Lesson::new(rows, config, &parts.device);
    let layout = Layout::Sequence {
        len: lesson.codes.dims()[2],
    };
    let head = parts.head.clone().with_layout(&layout);
    let input = head.inputs(lesson.codes.clone(), &condition);
    let logits = head.logits_of(parts.backbone.forward(input, &condition));
    lesson.by_codebook(logits)
}
