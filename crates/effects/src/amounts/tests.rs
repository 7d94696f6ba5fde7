use proptest::prelude::*;

use super::{Unit, count, micros};

#[test]
fn amounts_are_exact() {
    let check = |text: &str, unit, expected: u64| assert_eq!(micros(text, unit), Ok(expected), "{text}");
    check("0", Unit::Whole, 0);
    check("100", Unit::Whole, 100_000_000);
    check("12.50", Unit::Whole, 12_500_000);
    check("0.1", Unit::Whole, 100_000);
    check("0.000001", Unit::Whole, 1);
    check("1250", Unit::Minor, 12_500_000);
    check("1", Unit::Minor, 10_000);
    check("9223372036854", Unit::Whole, 9_223_372_036_854_000_000);
}

#[test]
fn what_a_reader_would_round_or_guess_is_opaque() {
    for text in [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1e3",
        "1E3",
        "0x10",
        "010",
        "00",
        "1,000",
        "1.000,00",
        "1_000",
        ".5",
        "5.",
        "1.2.3",
        "1.0000001",
        "NaN",
        "Infinity",
        "١",
        "$5",
        "9223372036855",
        "18446744073709551616",
        "9007199255.000001",
        "1.-5",
        "1.+5",
    ] {
        assert!(micros(text, Unit::Whole).is_err(), "{text}");
    }
    assert!(micros("12.5", Unit::Minor).is_err());
    assert!(micros("922337203685478", Unit::Minor).is_err());
    for text in ["", "-0", "1.0", "1e2", "01", "9007199254740993", "18446744073709551616"] {
        assert!(count(text).is_err(), "{text}");
    }
    assert_eq!(count("9007199254740992"), Ok(9_007_199_254_740_992));
}

proptest! {
    /// A float that reads the same text never finds more than we do, but for its own rounding.
    #[test]
    fn a_float_agrees(text in "[0-9]{1,9}(\\.[0-9]{1,6})?") {
        if let Ok(found) = micros(&text, Unit::Whole) {
            let float: f64 = text.parse().unwrap();
            #[expect(clippy::cast_precision_loss, reason = "within what a float holds exactly")]
            let ours = found as f64 / 1e6;
            prop_assert!((float - ours).abs() <= float.abs() * f64::EPSILON);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = micros(&text, Unit::Whole);
        let _ = micros(&text, Unit::Minor);
        let _ = count(&text);
    }
}
