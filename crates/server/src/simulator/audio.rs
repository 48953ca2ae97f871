//! Sound as telephones carry it: µ-law, 8,000 samples a second, 160 bytes for 20 ms. Encodes, decodes, and makes tones.

use std::f64::consts::TAU;

/// Samples, and in µ-law bytes, for each second.
pub const SAMPLES_PER_SECOND: u32 = 8_000;
/// Bytes in one frame of 20 ms.
pub const FRAME_BYTES: usize = 160;
/// How long a frame lasts.
pub const FRAME_MS: u64 = 20;
/// µ-law's silence.
pub const SILENCE: u8 = 0xff;

const BIAS: i32 = 0x84;
const CLIP: i32 = 32_635;

/// One 16-bit sample as µ-law (ITU-T G.711).
pub fn encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    // The segment is where the highest bit stands, counted from bit 7.
    let exponent = (magnitude >> 7).ilog2();
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    let exponent = i32::try_from(exponent).expect("at most seven");
    let byte = !(sign | (exponent << 4) | mantissa) & 0xff;
    u8::try_from(byte).expect("masked to a byte")
}

/// One µ-law byte as a 16-bit sample.
pub fn decode(byte: u8) -> i16 {
    let byte = i32::from(!byte);
    let exponent = (byte >> 4) & 0x07;
    let magnitude = ((((byte & 0x0f) << 3) + BIAS) << exponent) - BIAS;
    i16::try_from(if byte & 0x80 == 0 { magnitude } else { -magnitude }).expect("µ-law covers 14 bits")
}

/// A tone in µ-law that swells and fades, so that it neither clicks nor startles.
#[expect(clippy::cast_possible_truncation, reason = "amplitudes are far inside 16 bits")]
pub fn tone(hertz: f64, ms: u32) -> Vec<u8> {
    const LOUDNESS: f64 = 6_000.0;
    const SWELL_S: f64 = 0.03;
    let samples = ms * SAMPLES_PER_SECOND / 1_000;
    let length_s = f64::from(samples) / f64::from(SAMPLES_PER_SECOND);
    (0..samples)
        .map(|at| {
            let time_s = f64::from(at) / f64::from(SAMPLES_PER_SECOND);
            let swell = (time_s / SWELL_S).min((length_s - time_s) / SWELL_S).clamp(0.0, 1.0);
            encode(((TAU * hertz * time_s).sin() * LOUDNESS * swell) as i16)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mu_law_survives_a_round_trip() {
        for byte in 0..=u8::MAX {
            // 0x7f is minus zero, which is the same sound as 0xff.
            if byte != 0x7f {
                assert_eq!(encode(decode(byte)), byte, "{byte:#04x}");
            }
        }
        assert_eq!(encode(0), SILENCE);
        assert_eq!(decode(SILENCE), 0);
        assert_eq!(decode(0x80), 32_124);
        assert_eq!(decode(0x00), -32_124);
        assert_eq!(encode(i16::MIN), 0x00);
    }

    #[test]
    fn a_tone_has_its_length_and_begins_softly() {
        let tone = tone(440.0, 1_000);
        assert_eq!(tone.len(), 8_000);
        assert_eq!(decode(tone[0]), 0);
        let loudest = tone.iter().map(|byte| decode(*byte).unsigned_abs()).max().unwrap();
        assert!((5_000..7_000).contains(&loudest), "{loudest}");
    }
}
