//! Headers that mirror a body (2026-07-28, `basic/transports/streamable-http`, "Request Metadata").
//!
//! Whoever routes by a header must route by what the body says, so both are compared and a difference is refused. What
//! goes on to an upstream is made from the body again, never copied: a header that the body does not bear out travels
//! nowhere. Pure: headers come in as texts. It must not know requests or connections. It does not cover which
//! revisions are served, nor whether a tool may be called.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_effects::json::{Node, Value};

/// The header with the revision.
pub const VERSION: &str = "mcp-protocol-version";
/// The header with the method.
pub const METHOD: &str = "mcp-method";
/// The header with the name, the URI or the task that the request is about.
pub const NAME: &str = "mcp-name";
/// What the names of headers begin with that mirror arguments.
pub const PARAM: &str = "mcp-param-";
/// The keyword of a schema that asks for such a header.
pub const ANNOTATION: &str = "x-mcp-header";

/// The member of `_meta` with the revision.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The member of `_meta` with the client's capabilities.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The member of `_meta` with the client's name.
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";
/// Beyond it, readers in JavaScript round.
const SAFE_INTEGER: i64 = (1 << 53) - 1;
/// As deep as a schema is looked into; no message of an upstream is read that nests deeper.
pub(crate) const DEPTH_MAX: usize = 128;
/// The most annotations of one tool.
pub(crate) const ANNOTATIONS_MAX: usize = 64;

/// One header that a tool's schema asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The whole name of the header, in lower case.
    pub header: String,
    /// Where its value stands in the arguments.
    pub path: Vec<String>,
}

/// The mirroring headers of one request, each at most once, without white space around the values.
#[derive(Clone, Debug, Default)]
pub struct Mirrors<'a> {
    /// `MCP-Protocol-Version`.
    pub version: Option<&'a str>,
    /// `Mcp-Method`.
    pub method: Option<&'a str>,
    /// `Mcp-Name`, encoded.
    pub name: Option<&'a str>,
    /// `Mcp-Param-*` by their whole names in lower case, encoded.
    pub params: Vec<(&'a str, &'a str)>,
}

/// What `_meta` of a request must say.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// The revision.
    pub version: &'a str,
    /// What the client can do: an object.
    pub capabilities: &'a Node,
    /// Who the client says it is: an object.
    pub client: Option<&'a Node>,
}

impl<'a> Meta<'a> {
    /// Reads the required members (2026-07-28, `basic`, "Per-request protocol fields").
    ///
    /// # Errors
    /// What is missing or of the wrong kind, for error -32602.
    pub fn read(params: Option<&'a Node>) -> Result<Self, String> {
        let meta = params.and_then(|params| params.get("_meta"));
        let meta = meta.ok_or_else(|| "a request needs `_meta` in its `params`".to_owned())?;
        let version = meta.get(META_VERSION).and_then(Node::as_str);
        let version = version.ok_or_else(|| format!("`_meta` needs `{META_VERSION}`, a string"))?;
        let capabilities = meta.get(META_CAPABILITIES).filter(|node| node.as_object().is_some());
        let capabilities = capabilities.ok_or_else(|| format!("`_meta` needs `{META_CAPABILITIES}`, an object"))?;
        let client = meta.get(META_CLIENT);
        if client.is_some_and(|client| client.as_object().is_none()) {
            return Err(format!("`{META_CLIENT}` must be an object"));
        }
        Ok(Self { version, capabilities, client })
    }
}

/// The text of a header's value: what is between the marks is base64 of UTF-8, everything else is itself.
///
/// # Errors
/// Refuses what the marks hold where it is not base64, with padding, of UTF-8.
pub fn decoded(value: &str) -> Result<String, String> {
    let Some(inner) = value.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)) else {
        return Ok(value.to_owned());
    };
    let bytes = BASE64_STANDARD.decode(inner).map_err(|_| "holds no valid base64".to_owned())?;
    String::from_utf8(bytes).map_err(|_| "holds no valid UTF-8".to_owned())
}

/// A value of a header that says `text`.
#[must_use]
pub fn encoded(text: &str) -> String {
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = text.as_bytes();
    let is_plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let is_marked = text.starts_with(OPEN) && text.ends_with(CLOSE);
    if !is_plain || is_marked || edge(bytes.first()) || edge(bytes.last()) {
        return format!("{OPEN}{}{CLOSE}", BASE64_STANDARD.encode(text));
    }
    text.to_owned()
}

/// What `Mcp-Name` mirrors of a request; none where it mirrors nothing.
#[must_use]
pub fn named<'a>(method: &str, params: Option<&'a Node>) -> Option<&'a str> {
    let member = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        // Extension `io.modelcontextprotocol/tasks`.
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    params?.get(member)?.as_str()
}

/// Compares the headers of a request with its method and parameters. The revision is compared with `_meta` before.
///
/// # Errors
/// The first difference, for error -32020.
pub fn compare(mirrors: &Mirrors<'_>, method: &str, params: Option<&Node>) -> Result<(), String> {
    match mirrors.method {
        None => return Err("the header `mcp-method` is missing".to_owned()),
        Some(found) if found != method => {
            return Err(format!("the header `mcp-method` says `{}`, the body another method", shown(found)));
        }
        Some(_) => {}
    }
    let name = mirrors.name.map(|value| decoded(value).map_err(|why| format!("the header `mcp-name` {why}")));
    match (name.transpose()?, named(method, params)) {
        (Some(found), Some(wanted)) if found == wanted => Ok(()),
        (None, None) => Ok(()),
        (None, Some(_)) => Err("the header `mcp-name` is missing".to_owned()),
        (Some(found), Some(_)) => Err(format!("the header `mcp-name` says `{}`, the body another name", shown(&found))),
        // Nothing in the body that it could mirror; it goes nowhere.
        (Some(_), None) => Ok(()),
    }
}

/// Compares the headers that mirror arguments with the arguments.
///
/// # Errors
/// The first difference, for error -32020.
pub fn compare_params(
    mirrors: &Mirrors<'_>,
    annotations: &[Annotation],
    (arguments, input): (Option<&Node>, &[u8]),
) -> Result<(), String> {
    for Annotation { header, path } in annotations {
        let found = mirrors.params.iter().find(|(name, _)| name == header).map(|(_, value)| *value);
        let found = found.map(|value| decoded(value).map_err(|why| format!("the header `{header}` {why}")));
        match (found.transpose()?, mirrored(arguments, path, input)) {
            (None, None) => {}
            (None, Some(_)) => return Err(format!("the header `{header}` is missing, its argument is not")),
            (Some(_), None) => return Err(format!("the header `{header}` is there, its argument is not")),
            (Some(found), Some(wanted)) => {
                if !wanted.is(&found) {
                    return Err(format!("the header `{header}` and its argument differ"));
                }
            }
        }
    }
    Ok(())
}

/// The headers that mirror arguments, by their whole names, made from the arguments.
#[must_use]
pub fn params(annotations: &[Annotation], (arguments, input): (Option<&Node>, &[u8])) -> Vec<(String, String)> {
    let made = annotations.iter().filter_map(|Annotation { header, path }| {
        Some((header.clone(), encoded(&mirrored(arguments, path, input)?.text)))
    });
    made.collect()
}

/// What an argument is as the value of a header.
struct Argument {
    text: String,
    is_number: bool,
}

impl Argument {
    /// Integers are compared as numbers: `42.0` is `42`.
    fn is(&self, found: &str) -> bool {
        if !self.is_number {
            return self.text == found;
        }
        match (integer(&self.text), integer(found)) {
            (Some(own), Some(other)) => own == other,
            _ => false,
        }
    }
}

/// The argument at `path`; none where it is absent, `null`, an object or an array.
fn mirrored(arguments: Option<&Node>, path: &[String], input: &[u8]) -> Option<Argument> {
    let node = path.iter().try_fold(arguments?, |node, key| node.get(key))?;
    let (text, is_number) = match &node.value {
        Value::String(text) => (text.clone(), false),
        Value::Bool(truth) => (truth.to_string(), false),
        Value::Number => (node.as_number(input)?.to_owned(), true),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(Argument { text, is_number })
}

/// An integer that every reader takes for the same one, with a fraction of zeros at most.
fn integer(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let zeros = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    if !plain || !zeros {
        return None;
    }
    whole.parse::<i64>().ok().filter(|value| (-SAFE_INTEGER..=SAFE_INTEGER).contains(value))
}

/// The annotations of a tool's `inputSchema`, in its order.
///
/// # Errors
/// What makes the definition invalid ("Schema Extension"): clients have to leave such a tool out.
pub fn annotations(schema: &Node) -> Result<Vec<Annotation>, String> {
    let mut found = Vec::new();
    if schema.get(ANNOTATION).is_some() {
        return Err(format!("`{ANNOTATION}` stands at the root of the schema"));
    }
    walk(schema, &mut Vec::new(), &mut found)?;
    if found.len() > ANNOTATIONS_MAX {
        return Err(format!("more than {ANNOTATIONS_MAX} annotations `{ANNOTATION}`"));
    }
    let mut names: Vec<&str> = found.iter().map(|annotation| annotation.header.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| matches!(pair, [first, second] if first == second)) {
        Some(_) => Err(format!("two annotations `{ANNOTATION}` name the same header")),
        None => Ok(found),
    }
}

/// Looks along `properties`, and refuses an annotation anywhere else.
fn walk(schema: &Node, path: &mut Vec<String>, found: &mut Vec<Annotation>) -> Result<(), String> {
    for (keyword, node) in schema.as_object().unwrap_or_default() {
        match keyword.as_str() {
            "properties" if path.len() < DEPTH_MAX => {
                for (name, property) in node.as_object().unwrap_or_default() {
                    path.push(name.clone());
                    if let Some(header) = property.get(ANNOTATION) {
                        found.push(Annotation { header: header_of(header, property)?, path: path.clone() });
                    }
                    walk(property, path, found)?;
                    path.pop();
                }
            }
            // Data, not schemas.
            "default" | "const" | "enum" | "examples" | ANNOTATION => {}
            _ if is_annotated(node, DEPTH_MAX) => {
                return Err(format!("an annotation `{ANNOTATION}` stands under `{}`", shown(keyword)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn header_of(header: &Node, property: &Node) -> Result<String, String> {
    let name = header.as_str().ok_or_else(|| format!("`{ANNOTATION}` is no string"))?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Err(format!("`{}` cannot be part of a header's name", shown(name)));
    }
    match property.get("type").and_then(Node::as_str) {
        Some("string" | "integer" | "boolean") => Ok(format!("{PARAM}{}", name.to_ascii_lowercase())),
        _ => Err(format!("`{ANNOTATION}` stands at a property that is no string, integer or boolean")),
    }
}

/// Whether an annotation stands anywhere in a value. What is too deep to look into counts as annotated.
fn is_annotated(node: &Node, depth: usize) -> bool {
    let Some(deeper) = depth.checked_sub(1) else { return true };
    match &node.value {
        Value::Object(members) => members.iter().any(|(key, value)| key == ANNOTATION || is_annotated(value, deeper)),
        Value::Array(items) => items.iter().any(|item| is_annotated(item, deeper)),
        _ => false,
    }
}

fn shown(text: &str) -> String {
    text.escape_default().take(80).collect()
}
