//! A stranger's picture, made anew of its pixels: what is beside them (metadata, a second file behind the first) goes.
//!
//! Always: the decoder runs in a process of its own, which has no variable, no file and no socket, and so much memory and time. It is
//! this program again (`bottle-runner self picture`), told everything by standard input.

use std::io::{Cursor, Read as _, Write as _};
use std::time::Duration;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageEncoder as _, ImageFormat, ImageReader, Limits};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::process::{ProcessError, Program};

/// The longest side that is decoded, in pixels: what Anthropic's API takes at most.
/// <https://docs.claude.com/en/docs/build-with-claude/vision>
const MAX_SIDE: u32 = 8000;
/// The most pixels that are decoded: a screenshot of two large screens has a third of it.
const MAX_PIXELS: u64 = 40_000_000;
/// The longest side that is given: a larger one the API makes smaller itself (the same page).
const GIVEN_SIDE: u32 = 1568;
/// What a decoder may allocate, in bytes.
const MAX_ALLOC: u64 = 320 << 20;
/// The memory of the process, in bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// The processor time of the process, in seconds; the machine may be busy, so that its end is waited for longer.
const MAX_SECONDS: u64 = 20;
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// More than the largest picture that is given, without any compression.
const MAX_GIVEN_BYTES: usize = 16 << 20;
const JPEG_QUALITY: u8 = 85;

/// The formats that pictures may have, each by what it begins with.
const SIGNATURES: [(&[u8], ImageFormat); 4] = [
    (b"\x89PNG\r\n\x1a\n", ImageFormat::Png),
    (b"\xff\xd8\xff", ImageFormat::Jpeg),
    (b"GIF8", ImageFormat::Gif),
    (b"RIFF", ImageFormat::WebP),
];

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("it has {0} x {1} pixels; {MAX_SIDE} a side and {MAX_PIXELS} together is the most")]
    TooLarge(u32, u32),
    #[error("it is no whole picture: {0}")]
    Broken(String),
    #[error("its decoder ended with {0}")]
    Ended(i32),
    #[error("its decoder can't be run: {0}")]
    NotRun(#[from] ProcessError),
}

/// A picture of the same pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Picture {
    pub(crate) kind: PictureKind,
    /// As it was.
    pub(crate) from: (u32, u32),
    /// As it is.
    pub(crate) size: (u32, u32),
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
}

/// The format of a picture that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PictureKind {
    Png,
    Jpeg,
}

impl PictureKind {
    /// The end of a file's name.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
        }
    }
}

/// The first line of the decoder's answer; a picture's bytes follow.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Picture(Picture),
    TooLarge(u32, u32),
    Broken(String),
}

/// The format of a picture, by its first bytes; none of anything else.
pub(super) fn format(bytes: &[u8]) -> Option<ImageFormat> {
    let (_, format) = SIGNATURES.into_iter().find(|(begins, _)| bytes.starts_with(begins))?;
    (format != ImageFormat::WebP || bytes.get(8..12) == Some(b"WEBP")).then_some(format)
}

/// Has a picture made anew in a process of its own.
pub(super) async fn remake(bytes: Vec<u8>) -> Result<Picture, PictureError> {
    let mut decoder = Program::new(["/proc/self/exe", "self", "picture"]).bare().input(bytes).limit(END_TIMEOUT);
    decoder = decoder.in_dir("/");
    let Some(ended) = decoder.print(MAX_GIVEN_BYTES).await? else {
        return Err(PictureError::Broken("it is too large when it is decoded".to_owned()));
    };
    if ended.code != 0 {
        return Err(PictureError::Ended(ended.code));
    }
    let nonsense = || PictureError::Broken("the decoder's answer can't be read".to_owned());
    let line = ended.stdout.iter().position(|byte| *byte == b'\n').ok_or_else(nonsense)?;
    match serde_json::from_slice(&ended.stdout[..line]).map_err(|_| nonsense())? {
        Answer::Picture(picture) => Ok(Picture { bytes: ended.stdout[line + 1..].to_vec(), ..picture }),
        Answer::TooLarge(width, height) => Err(PictureError::TooLarge(width, height)),
        Answer::Broken(why) => Err(PictureError::Broken(bottle_policy::prose::name(&why, 100))),
    }
}

/// The decoder's process: a picture on standard input, the answer on standard output.
pub(crate) fn decoder() -> std::io::Result<()> {
    let mut bytes = vec![];
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    // The decoder has all that it needs: from here on nothing can be opened, written to a file or started.
    for (resource, most) in [
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::As, MAX_MEMORY),
        (Resource::Cpu, MAX_SECONDS),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    let (answer, bytes) = match made_anew(&bytes) {
        Ok(mut picture) => {
            let bytes = std::mem::take(&mut picture.bytes);
            (Answer::Picture(picture), bytes)
        }
        Err(PictureError::TooLarge(width, height)) => (Answer::TooLarge(width, height), vec![]),
        Err(error) => (Answer::Broken(error.to_string()), vec![]),
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &answer)?;
    out.write_all(b"\n")?;
    out.write_all(&bytes)?;
    out.flush()
}

/// Decodes a picture, of an animation the first frame, and encodes its pixels: no larger than the model sees it, as its camera was held.
fn made_anew(bytes: &[u8]) -> Result<Picture, PictureError> {
    let broken = |error: &dyn std::fmt::Display| PictureError::Broken(error.to_string());
    let format = format(bytes).ok_or_else(|| broken(&"it has no known beginning"))?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The decoder reads the size before it allocates anything for pixels.
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| broken(&error))?;
    let from = decoder.dimensions();
    let (width, height) = from;
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooLarge(width, height));
    }
    let orientation = decoder.orientation().map_err(|error| broken(&error))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| broken(&error))?;
    if width.max(height) > GIVEN_SIDE {
        image = image.resize(GIVEN_SIDE, GIVEN_SIDE, FilterType::Triangle);
    }
    image.apply_orientation(orientation);
    let size = (image.width(), image.height());
    let mut bytes = vec![];
    let kind = match format {
        ImageFormat::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
            image.into_rgb8().write_with_encoder(encoder).map_err(|error| broken(&error))?;
            PictureKind::Jpeg
        }
        _ => {
            let (pixels, colour) = match image.color().has_alpha() {
                true => (image.into_rgba8().into_raw(), image::ExtendedColorType::Rgba8),
                false => (image.into_rgb8().into_raw(), image::ExtendedColorType::Rgb8),
            };
            let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
            encoder.write_image(&pixels, size.0, size.1, colour).map_err(|error| broken(&error))?;
            PictureKind::Png
        }
    };
    Ok(Picture { kind, from, size, bytes })
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
