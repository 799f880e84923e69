//! WAV files that are whole, odd, cut or hostile, and sound at other rates.

use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};
use ravel_media::{MediaError, Sound, decode_wav, encode_wav, read_wav, wav_text};

const RATE: u32 = 8000;

fn tone(hz: f32, rate: u32, len: usize) -> Vec<f32> {
    let step = hz / rate as f32 * std::f32::consts::TAU;
    (0..len).map(|at| 0.5 * (at as f32 * step).sin()).collect()
}

fn wav(bits: u16, format: SampleFormat, channels: u16, samples: &[f32]) -> Vec<u8> {
    let spec = WavSpec {
        channels,
        sample_rate: RATE,
        bits_per_sample: bits,
        sample_format: format,
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
    for &sample in samples {
        match format {
            SampleFormat::Float => writer.write_sample(sample).unwrap(),
            SampleFormat::Int => {
                let most = (1i64 << (bits - 1)) - 1;
                let whole = (f64::from(sample) * most as f64) as i32;
                writer.write_sample(whole).unwrap();
            }
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

fn refused(bytes: &[u8]) -> String {
    let error = decode_wav(bytes, Path::new("a.wav")).expect_err("a refusal");
    let line = error.to_string();
    assert!(matches!(error, MediaError::Sound { .. }), "{line}");
    assert_eq!(line.lines().count(), 1);
    line
}

#[test]
fn every_width_is_read() {
    let samples = tone(440.0, RATE, 200);
    for (bits, format, bound) in [
        (8, SampleFormat::Int, 2e-2),
        (16, SampleFormat::Int, 1e-4),
        (24, SampleFormat::Int, 1e-6),
        (32, SampleFormat::Int, 1e-6),
        (32, SampleFormat::Float, 0.0),
    ] {
        for channels in [1, 2, 5] {
            let sound = decode_wav(&wav(bits, format, channels, &samples), Path::new("a.wav"));
            let sound = sound.unwrap();
            assert_eq!(sound.channels.len(), usize::from(channels));
            assert_eq!(
                (sound.len(), sound.sample_rate_hz),
                (200 / usize::from(channels), RATE)
            );
            for (channel, found) in sound.channels.iter().enumerate() {
                let expected = samples.iter().skip(channel).step_by(channels.into());
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (found - expected).abs() <= bound,
                        "{bits} bits: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_written_is_read_again_with_its_text() {
    let sound = Sound {
        channels: vec![tone(300.0, RATE, 101), tone(500.0, RATE, 101)],
        sample_rate_hz: RATE,
    };
    let text = [("ISFT", "ravel"), ("ICMT", "{\"pipeline\": \"ünïcode\"}")];
    let bytes = encode_wav(&sound, &text);
    let back = decode_wav(&bytes, Path::new("a.wav")).unwrap();
    for (found, expected) in back.channels.concat().iter().zip(sound.channels.concat()) {
        assert!((found - expected).abs() < 1e-4);
    }
    let expected = text.map(|(name, value)| (name.to_string(), value.to_string()));
    assert_eq!(wav_text(&bytes), expected);
    assert!(wav_text(&encode_wav(&sound, &[])).is_empty());
    assert_eq!(
        u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize,
        bytes.len() - 8
    );
}

#[test]
fn broken_files_are_refused_in_a_line() {
    let whole = wav(16, SampleFormat::Int, 1, &tone(440.0, RATE, 100));
    assert!(refused(&whole[..whole.len() - 30]).contains("ends after 85 of 100 samples"));
    assert!(refused(&whole[..20]).contains("it ends within its header"));
    assert!(refused(b"").contains("a.wav"));
    assert!(refused(b"no sound at all, but long enough to be looked at").contains("a.wav"));
    assert!(refused(&wav(16, SampleFormat::Int, 1, &[])).contains("no sample in it"));
    let mut silent = wav(32, SampleFormat::Float, 1, &[0.0, 0.5]);
    let end = silent.len();
    silent[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refused(&silent).contains("sample 1 is no number"));
    let mut slow = whole.clone();
    slow[24..28].copy_from_slice(&7u32.to_le_bytes());
    slow[28..32].copy_from_slice(&14u32.to_le_bytes());
    assert!(refused(&slow).contains("7 samples a second"));
    let absent = read_wav(Path::new("/nowhere/a.wav")).unwrap_err();
    assert!(matches!(absent, MediaError::File { .. }));
}

#[test]
fn no_cut_and_no_flipped_byte_is_a_panic() {
    let whole = encode_wav(
        &Sound {
            channels: vec![tone(440.0, RATE, 20); 2],
            sample_rate_hz: RATE,
        },
        &[("ICMT", "a")],
    );
    for len in 0..whole.len() {
        let _ = decode_wav(&whole[..len], Path::new("a.wav"));
        wav_text(&whole[..len]);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let _ = decode_wav(&bytes, Path::new("a.wav"));
            wav_text(&bytes);
        }
    }
}

#[test]
fn another_rate_keeps_tones_and_length() {
    for (from, to) in [
        (96_000, 24_000),
        (44_100, 24_000),
        (8000, 48_000),
        (24_000, 16_000),
    ] {
        let len = from as usize / 10;
        let sound = Sound {
            channels: vec![tone(1000.0, from, len), tone(440.0, from, len)],
            sample_rate_hz: from,
        };
        let found = sound.resampled(to);
        assert_eq!(found.sample_rate_hz, to);
        assert_eq!(
            found.len(),
            (len as u64 * u64::from(to)).div_ceil(from.into()) as usize
        );
        for (channel, hz) in found.channels.iter().zip([1000.0, 440.0]) {
            let expected = tone(hz, to, channel.len());
            // Away from the ends, where the filter sees silence.
            let middle = channel.len() / 4..channel.len() * 3 / 4;
            for at in middle {
                let difference = (channel[at] - expected[at]).abs();
                assert!(difference < 2e-3, "{from} to {to}: {difference} at {at}");
            }
        }
    }
    let one = Sound {
        channels: vec![vec![0.5]],
        sample_rate_hz: 96_000,
    };
    assert_eq!(one.resampled(24_000).len(), 1);
}

#[test]
fn channels_are_mixed_and_repeated() {
    let stereo = Sound {
        channels: vec![vec![1.0, 0.0], vec![0.0, 0.5]],
        sample_rate_hz: RATE,
    };
    assert_eq!(stereo.clone().with_channels(2), stereo);
    let mono = stereo.with_channels(1);
    assert_eq!(mono.channels, [[0.5, 0.25]]);
    assert_eq!(mono.with_channels(3).channels, vec![vec![0.5, 0.25]; 3]);
}
