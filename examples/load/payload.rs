//! The data of an event, and the stamp in it.
//!
//! The data is a JSON object like those of applications, with quotes:
//! `{"at":"#1764085000123456.0000000042","pad":"xxx"}`. The stamp, from the `#`, holds the
//! publisher's clock in microseconds and the event's number. It survives any change of encoding by
//! the server: it is found by its `#`, at any position.

/// The length of a stamp in bytes: `#`, 16 digits, a dot, 8 digits.
const STAMP: usize = 26;
/// The maximum position of a stamp in a message.
const SEARCH_BYTES_MAX: usize = 1_024;
/// The largest event number, which is written with eight digits.
pub(crate) const NUMBER_MAX: u32 = 99_999_999;
/// The length of the data without stamp and padding, including its quotes.
const FRAME: usize = r#"{"at":"","pad":""}"#.len();
/// The minimum length of the data.
pub(crate) const BYTES_MIN: usize = FRAME + STAMP;

/// The content of a stamp.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    /// The time of the publish, or its scheduled time, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// The number of the event on its channel, from 0.
    pub(crate) number: u32,
}

/// The data of an event in the form within a JSON string, with escaped quotes.
///
/// `bytes` is the length of the unescaped data, as an application counts it.
pub(crate) fn push_escaped(text: &mut Vec<u8>, stamp: Stamp, bytes: usize) {
    text.extend_from_slice(br#"{\"at\":\""#);
    push_stamp(text, stamp);
    text.extend_from_slice(br#"\",\"pad\":\""#);
    text.resize(text.len() + bytes.saturating_sub(BYTES_MIN), b'x');
    text.extend_from_slice(br#"\"}"#);
}

/// The data of a client event, as a JSON object.
pub(crate) fn push_object(text: &mut Vec<u8>, stamp: Stamp, bytes: usize) {
    text.extend_from_slice(br#"{"at":""#);
    push_stamp(text, stamp);
    text.extend_from_slice(br#"","pad":""#);
    text.resize(text.len() + bytes.saturating_sub(BYTES_MIN), b'x');
    text.extend_from_slice(br#""}"#);
}

fn push_stamp(text: &mut Vec<u8>, stamp: Stamp) {
    text.push(b'#');
    push_digits(text, stamp.at_us, 16);
    text.push(b'.');
    push_digits(text, u64::from(stamp.number), 8);
}

fn push_digits(text: &mut Vec<u8>, mut number: u64, digits: usize) {
    let start = text.len();
    text.resize(start + digits, b'0');
    for digit in text[start..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

/// Overwrites the stamp that begins at `at`.
pub(crate) fn restamp(text: &mut Vec<u8>, at: usize, stamp: Stamp) {
    let rest = text.split_off(at + STAMP);
    text.truncate(at);
    push_stamp(text, stamp);
    text.extend_from_slice(&rest);
}

/// Reads the stamps of similar messages: it stores the position of the last stamp.
#[derive(Debug, Default)]
pub(crate) struct StampReader {
    at: usize,
}

impl StampReader {
    /// The stamp of a message, if it has one.
    pub(crate) fn read(&mut self, message: &[u8]) -> Option<Stamp> {
        if let Some(stamp) = stamp_at(message, self.at) {
            return Some(stamp);
        }
        let head = &message[..message.len().min(SEARCH_BYTES_MAX)];
        let hashes = head.iter().enumerate().filter(|(_, byte)| **byte == b'#');
        for (at, _) in hashes {
            if let Some(stamp) = stamp_at(message, at) {
                self.at = at;
                return Some(stamp);
            }
        }
        None
    }
}

/// The stamp of a message, if it has one.
pub(crate) fn stamp(message: &[u8]) -> Option<Stamp> {
    StampReader::default().read(message)
}

/// The position of a message's stamp.
pub(crate) fn find(message: &[u8]) -> Option<usize> {
    let mut reader = StampReader { at: usize::MAX };
    reader.read(message).map(|_| reader.at)
}

fn stamp_at(message: &[u8], at: usize) -> Option<Stamp> {
    let text = message.get(at..at.checked_add(STAMP)?)?;
    if text[0] != b'#' || text[17] != b'.' {
        return None;
    }
    let at_us = eight_digits(&text[1..9])? * 100_000_000 + eight_digits(&text[9..17])?;
    let number = u32::try_from(eight_digits(&text[18..26])?).ok()?;
    Some(Stamp { at_us, number })
}

/// Parses eight ASCII digits at once: pairs, then fours, then all, in the lanes of one word.
fn eight_digits(text: &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(text.try_into().ok()?);
    let lanes = word.wrapping_sub(0x3030_3030_3030_3030);
    // A byte other than a digit has a bit in its upper half before or after six is added.
    if (lanes | lanes.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    let pairs = lanes.wrapping_mul(10).wrapping_add(lanes >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    let all = fours.wrapping_mul(10_000).wrapping_add(fours >> 32);
    Some(all & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMPED: Stamp = Stamp { at_us: 1_764_085_000_123_456, number: 42 };

    #[test]
    fn digits_are_read_and_nothing_else_is() {
        assert_eq!(eight_digits(b"01234567"), Some(1_234_567));
        assert_eq!(eight_digits(b"99999999"), Some(99_999_999));
        for at in 0..8 {
            for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
                let mut text = *b"12345678";
                text[at] = byte;
                assert_eq!(eight_digits(&text), None, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn a_stamp_is_found_wherever_it_stands() {
        let mut reader = StampReader::default();
        for before in ["", "# #12.", r#"{"event":"load","channel":"a","data":""#] {
            let mut text = before.as_bytes().to_vec();
            push_escaped(&mut text, STAMPED, 128);
            assert_eq!(reader.read(&text), Some(STAMPED), "{before}");
            assert_eq!(text.len(), before.len() + 128 + 8, "the quotes are escaped");
            let at = find(&text).unwrap();
            let other = Stamp { at_us: 7, number: NUMBER_MAX };
            restamp(&mut text, at, other);
            assert_eq!(reader.read(&text), Some(other));
        }
        assert_eq!(reader.read(b"{}"), None);
    }

    #[test]
    fn an_object_is_as_long_as_asked() {
        let mut text = Vec::new();
        push_object(&mut text, STAMPED, 128);
        assert_eq!(text.len(), 128);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(value["at"].is_string());
    }
}
