//! What must hold for every clip.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use causal_video::{CausalVideoConfig, CausalVideoTokenizer, ChangeConfig, FirstConfig, PerFrame};
use ravel_core::{Canvas, Clip, Codes, Error, Layout, Tokenizer, VideoTokenizer};
use ravel_nn::conv::{AutoencoderConfig, CompactConfig};
use ravel_quant::VectorConfig;
use ravel_testkit::{assert_close, device, formula, values};
use vq_image::{VqImageConfig, VqImageTokenizer};

fn autoencoder() -> AutoencoderConfig {
    AutoencoderConfig::Compact(CompactConfig {
        patch: 4,
        encoder: vec![8, 12],
        decoder: vec![12, 8],
        encoder_blocks: vec![1, 1],
        decoder_blocks: vec![1, 1],
    })
}

fn config(group: usize) -> CausalVideoConfig {
    CausalVideoConfig {
        size: 32,
        first: FirstConfig {
            autoencoder: autoencoder(),
            levels: vec![4, 3, 3],
        },
        later: ChangeConfig {
            group,
            reach: 2,
            patch: 4,
            width: 12,
            deep_width: 8,
            blocks: 1,
            deep_blocks: 1,
            levels: vec![5, 5, 2],
            sharpness: 1.0,
            carries: false,
            layers: false,
            walls: false,
            moves_only: false,
        },
    }
}

fn tokenizer(group: usize, device: &Device) -> CausalVideoTokenizer {
    let config = config(group);
    device.seed(7);
    CausalVideoTokenizer::new(config.init(device), &config)
}

/// One whose cells carry what is in them.
fn carrying(device: &Device) -> CausalVideoTokenizer {
    let mut config = config(1);
    config.later.carries = true;
    device.seed(7);
    CausalVideoTokenizer::new(config.init(device), &config)
}

/// One whose codes only move pixels.
fn moving(config: CausalVideoConfig) -> CausalVideoConfig {
    let later = ChangeConfig {
        moves_only: true,
        carries: true,
        layers: false,
        walls: false,
        width: 0,
        deep_width: 0,
        blocks: 0,
        deep_blocks: 0,
        ..config.later
    };
    CausalVideoConfig { later, ..config }
}

fn clip(rows: usize, frames: usize, salt: u32) -> Clip {
    Clip {
        frames: formula([rows, frames, 3, 32, 32], salt, 1.0, &device()),
        frames_per_second: 12.0,
    }
}

/// The codes of a clip that comes in pieces, and the frames of codes that come in pieces.
fn in_pieces(tokenizer: &dyn VideoTokenizer, clip: &Clip, sizes: &[usize]) -> (Codes, Clip) {
    let rows = clip.frames.dims()[0];
    let mut encoder = tokenizer.begin_encode(rows);
    let mut codes: Option<Codes> = None;
    let mut start = 0;
    for &size in sizes {
        let found = encoder
            .push(clip.part(start, size))
            .expect("frames that fit");
        start += size;
        match &mut codes {
            None => codes = Some(found),
            Some(codes) => codes.extend(found.ids),
        }
    }
    encoder.finish().expect("whole groups");
    let codes = codes.expect("a piece");
    let mut decoder = tokenizer.begin_decode(rows, 1);
    let mut frames = Vec::new();
    let mut start = 0;
    for len in [1, 30, codes.filled() - 31] {
        let part = Codes {
            ids: codes.ids.clone().narrow(2, start, len),
            layout: codes.layout.clone(),
        };
        start += len;
        frames.push(decoder.push(&part).expect("codes that fit").frames);
    }
    decoder.finish().expect("whole groups");
    let frames = Clip {
        frames: Tensor::cat(frames, 1),
        frames_per_second: 12.0,
    };
    (codes, frames)
}

fn check_pieces(tokenizer: &dyn VideoTokenizer, frames: usize, sizes: &[usize]) {
    let clip = clip(2, frames, 3);
    let whole = tokenizer
        .as_tokenizer()
        .encode(clip.clone())
        .expect("a clip that fits");
    let shown = tokenizer.as_tokenizer().decode(&whole).expect("its codes");
    let (codes, pieces) = in_pieces(tokenizer, &clip, sizes);
    assert_eq!(codes.to_host(), whole.to_host());
    assert_eq!(shown.frames.dims(), clip.frames.dims());
    assert_close("frames", &pieces.frames, &shown.frames, 0.0);
}

#[test]
fn pieces_give_what_the_whole_gives() {
    let device = device();
    check_pieces(&tokenizer(1, &device), 4, &[1, 2, 1]);
    check_pieces(&tokenizer(2, &device), 7, &[2, 2, 0, 3]);
    check_pieces(&carrying(&device), 4, &[1, 2, 1]);
    let moving = moving(config(1));
    let tokenizer = CausalVideoTokenizer::new(moving.init(&device), &moving);
    check_pieces(&tokenizer, 4, &[1, 2, 1]);
    check_pieces(&per_frame(&device), 4, &[3, 1]);
}

#[test]
fn a_later_frame_changes_no_earlier_code() {
    let tokenizer = tokenizer(1, &device());
    let (one, mut other) = (clip(1, 4, 3), clip(1, 4, 3));
    let changed = clip(1, 1, 9).frames;
    other.frames = Tensor::cat(vec![one.part(0, 3).frames, changed], 1);
    let ids = |clip: Clip| tokenizer.encode(clip).expect("a clip that fits").to_host();
    let (one, other) = (ids(one), ids(other));
    assert_eq!(one[0][..48], other[0][..48]);
    assert_ne!(one[0][48..], other[0][48..]);
}

#[test]
fn rows_do_not_see_each_other() {
    let tokenizer = tokenizer(1, &device());
    let both = clip(2, 3, 4);
    let second = Clip {
        frames: both.frames.clone().narrow(0, 1, 1),
        ..both.clone()
    };
    let all = tokenizer.encode(both).expect("a clip that fits").to_host();
    let one = tokenizer
        .encode(second)
        .expect("a clip that fits")
        .to_host();
    assert_eq!(all[1], one[0]);
}

#[test]
fn a_fresh_tokenizer_follows_what_moves() {
    let device = device();
    let tokenizer = tokenizer(1, &device);
    // A random texture on grey goes two pixels right and one down.
    let place = |down: usize, right: usize| -> Tensor<5> {
        let texture: Tensor<4> = formula([1, 3, 12, 12], 5, 1.0, &device);
        Tensor::<4>::zeros([1, 3, 32, 32], &device)
            .slice_assign([0..1, 0..3, down..down + 12, right..right + 12], texture)
            .unsqueeze_dim(1)
    };
    let (before, after) = (place(8, 8), place(9, 10));
    let canvas = tokenizer.anchored(before.clone(), None);
    let ids = tokenizer.later_ids(&canvas, after.clone());
    let shown = tokenizer.later(&canvas, ids).frames;
    let error = |found: Tensor<5>| values(&(found - after.clone()).abs().mean())[0];
    let (moved, copied) = (error(shown), error(before));
    assert!(moved < 0.3 * copied, "{moved} against {copied}");
}

#[test]
fn where_codes_only_move_pixels_none_is_blurred() {
    let device = device();
    let config = moving(config(1));
    let module = config.init(&device);
    assert!(module.later_encoder.is_none() && module.later_decoder.is_none());
    let tokenizer = CausalVideoTokenizer::new(module, &config);
    // A random texture on grey that starts on whole cells goes two pixels right and one down, four times.
    let place = |step: usize| -> Tensor<5> {
        let (down, right) = (8 + step, 8 + 2 * step);
        let texture: Tensor<4> = formula([1, 3, 8, 8], 5, 1.0, &device);
        Tensor::<4>::zeros([1, 3, 32, 32], &device)
            .slice_assign([0..1, 0..3, down..down + 8, right..right + 8], texture)
            .unsqueeze_dim(1)
    };
    let mut canvas = tokenizer.anchored(place(0), None);
    for step in 1..5 {
        let ids = tokenizer.later_ids(&canvas, place(step));
        canvas = tokenizer.later(&canvas, ids);
        assert_close("frame", &canvas.frames, &place(step), 0.0);
    }
}

/// One that takes given frames apart.
fn layered(device: &Device) -> CausalVideoTokenizer {
    let mut config = moving(config(1));
    config.later.layers = true;
    CausalVideoTokenizer::new(config.init(device), &config)
}

/// A square of `salt`'s texture on grey that goes one pixel down and to the right.
fn square_at(step: usize, salt: u32) -> Tensor<5> {
    let device = device();
    let at = 4 + step;
    let texture: Tensor<4> = formula([1, 3, 10, 10], salt, 1.0, &device);
    Tensor::<4>::zeros([1, 3, 32, 32], &device)
        .slice_assign([0..1, 0..3, at..at + 10, at..at + 10], texture)
        .unsqueeze_dim(1)
}

/// The canvas after four given frames.
fn given_four(tokenizer: &dyn VideoTokenizer, frame: &dyn Fn(usize) -> Tensor<5>) -> Canvas {
    let mut canvas = tokenizer.anchored(frame(0), None);
    for step in 1..4 {
        let ids = tokenizer.later_ids(&canvas, frame(step));
        canvas = tokenizer.following(&canvas, frame(step), ids);
    }
    canvas
}

#[test]
fn what_goes_on_from_given_frames_moves_as_a_whole() {
    let tokenizer = layered(&device());
    let frame = |step| square_at(step, 5);
    let mut canvas = given_four(&tokenizer, &frame);
    for step in 4..14 {
        let ids = tokenizer.later_ids(&canvas, frame(step));
        let mut wrong: Vec<i32> = ids
            .into_data()
            .convert::<i32>()
            .try_into_vec()
            .expect("ids");
        // The cell of the square that shows least of it says that it goes back, or that it stays.
        let at = 4 + step;
        let cell = match at % 8 > 3 {
            true => at / 8,
            false => (at + 9) / 8,
        };
        wrong[cell * 4 + cell] = match step % 2 {
            0 => 0,
            _ => wrong[3],
        };
        let ids = Tensor::from_data(TensorData::new(wrong, [1, 16]), &device());
        let next = tokenizer.later(&canvas, ids);
        assert_close("frame", &next.frames, &frame(step), 0.0);
        // It goes on with the codes of what it shows.
        let shown = tokenizer.later_ids(&canvas, next.frames.clone());
        let shown = tokenizer.anchored(next.frames.clone(), Some(shown));
        assert_close("vectors", &next.vectors, &shown.vectors, 0.0);
        canvas = next;
    }
}

#[test]
fn rows_are_taken_apart_by_themselves() {
    let tokenizer = layered(&device());
    // In the second row nothing is like the frame before: there is no telling what moves.
    let noise = |step: usize| formula([1, 1, 3, 32, 32], 90 + step as u32, 1.0, &device());
    let both = |step| Tensor::cat(vec![square_at(step, 5), noise(step)], 0);
    let (mut all, mut one, mut other) = (
        given_four(&tokenizer, &both),
        given_four(&tokenizer, &|step| square_at(step, 5)),
        given_four(&tokenizer, &noise),
    );
    for step in 4..8 {
        let ids = tokenizer.later_ids(&all, both(step));
        let row = |at: usize| ids.clone().narrow(0, at, 1);
        (one, other) = (
            tokenizer.later(&one, row(0)),
            tokenizer.later(&other, row(1)),
        );
        all = tokenizer.later(&all, ids.clone());
        let alone = Tensor::cat(vec![one.frames.clone(), other.frames.clone()], 0);
        assert_close("frames", &all.frames, &alone, 0.0);
    }
}

#[test]
fn codes_alone_decode_alike_with_and_without_layers() {
    let device = device();
    let mut config = moving(config(1));
    let weights = config.init(&device);
    let plain = CausalVideoTokenizer::new(weights.clone(), &config);
    config.later.layers = true;
    let module = config.init(&device).load_record(weights.into_record());
    let layered = CausalVideoTokenizer::new(module, &config);
    let codes = plain.encode(clip(1, 4, 8)).expect("a clip that fits");
    let frames = |tokenizer: &CausalVideoTokenizer| {
        let clip = tokenizer.decode(&codes).expect("codes that fit");
        clip.frames
    };
    assert_close("frames", &frames(&layered), &frames(&plain), 0.0);
}

#[test]
fn a_canvas_shows_given_frames_as_they_are() {
    let tokenizer = tokenizer(1, &device());
    let frame = clip(1, 1, 6).frames;
    let canvas = tokenizer.anchored(frame.clone(), None);
    assert_close("frame", &canvas.frames, &frame, 0.0);
    let features = tokenizer.features(&canvas);
    let spec = tokenizer.video_spec();
    assert_eq!(features.dims(), [1, spec.positions(), spec.feature_width]);
    // The first cell's red values lead, row by row.
    let first = frame.slice([0..1, 0..1, 0..1, 0..1, 0..8]).reshape([8]);
    assert_close(
        "pixels",
        &features.slice([0..1, 0..1, 0..8]).reshape([8]),
        &first,
        0.0,
    );
}

fn per_frame(device: &Device) -> PerFrame {
    let config = VqImageConfig {
        size: 32,
        unit_vectors: false,
        autoencoder: autoencoder(),
        codebook: VectorConfig {
            codebook_size: 16,
            width: 4,
            l2_normalize: false,
        },
    };
    device.seed(3);
    let image = VqImageTokenizer::new(config.init(device), &config);
    PerFrame::new(Box::new(image)).expect("a grid of square cells")
}

#[test]
fn what_does_not_fit_is_named() {
    let tokenizer = tokenizer(2, &device());
    let signal = |clip: Clip| match tokenizer.encode(clip) {
        Err(Error::Signal { found, expected }) => format!("{found} / {expected}"),
        other => panic!("{other:?}"),
    };
    assert!(signal(clip(1, 4, 1)).contains("groups of 2"));
    assert!(signal(clip(1, 1, 1).part(0, 0)).contains("0 frames"));
    let small = Clip {
        frames: formula([1, 1, 3, 16, 16], 1, 1.0, &device()),
        frames_per_second: 12.0,
    };
    assert!(signal(small).contains("16 x 16"));
    let layout = Layout::Frames {
        frames: 1,
        height: 4,
        width: 4,
    };
    let codes = Codes::flat(Tensor::full([1, 16], 36, &device()), layout);
    let error = tokenizer.decode(&codes).expect_err("an id too large");
    assert!(error.to_string().contains("an id below 36"), "{error}");
    let mut bad = config(1);
    bad.later.levels = vec![5];
    let error = bad.validate().expect_err("one level").to_string();
    assert!(error.starts_with("later.levels"), "{error}");
}

#[test]
fn what_cannot_be_built_is_named() {
    let refused = |change: fn(&mut ChangeConfig)| {
        let mut config = config(1);
        change(&mut config.later);
        config.validate().err().map(|error| error.to_string())
    };
    assert_eq!(refused(|_| {}), None);
    for sharpness in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e30] {
        let mut config = config(1);
        config.later.sharpness = sharpness;
        let told = config
            .validate()
            .expect_err("no such sharpness")
            .to_string();
        assert!(told.contains("later.sharpness"), "{told}");
    }
    // A cell's side is eight pixels: from farther away a neighbour brings nothing.
    assert_eq!(refused(|later| later.reach = 9), None);
    let told = refused(|later| (later.reach, later.carries) = (9, true)).expect("too far");
    assert!(told.contains("later.reach"), "{told}");
    // Learned decoders take nothing apart.
    let told = refused(|later| later.layers = true).expect("no layers");
    assert!(
        told.contains("later.layers") && told.contains("moves-only"),
        "{told}"
    );
    // A network has a width, and where codes only move pixels there is none.
    let told = refused(|later| later.width = 0).expect("no width");
    assert!(told.contains("later.width"), "{told}");
    assert!(moving(config(1)).validate().is_ok());
    let told = |change: fn(&mut ChangeConfig)| {
        let mut config = moving(config(1));
        change(&mut config.later);
        let error = config
            .validate()
            .expect_err("what only learned coders have");
        error.to_string()
    };
    assert!(told(|later| later.group = 2).contains("later.group"));
    assert!(told(|later| later.blocks = 1).contains("later.blocks"));
    assert!(told(|later| later.sharpness = 4.0).contains("later.sharpness"));
}
