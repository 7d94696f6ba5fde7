//! Which words are near.

use super::*;

#[test]
fn the_nearest_word() {
    let known = ["verdict", "policies", "gates"];
    let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
    check("verdict", Some("verdict"));
    check("verdit", Some("verdict"));
    check("gate", Some("gates"));
    check("polices", Some("policies"));
    check("nothing", None);
    check("", None);
    assert_eq!(hint("gats", known), " (did you mean `gates`?)");
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!((distance("", "abc"), distance("abc", "")), (3, 3));
}
