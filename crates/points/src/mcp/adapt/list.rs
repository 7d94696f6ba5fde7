//! Listings as their callers may see them: what a caller may never use is left out, names get their prefixes, and the
//! pages of several upstreams become one. Every other byte of an item stays as its upstream sent it. Pure. It must not
//! know who may see what.

use countersign_effects::json::{Node, Value};
use countersign_model::id::UpstreamId;

use super::forced_private;
use crate::mcp::methods::Listing;
use crate::mcp::route::rename::Prefixing;
use crate::mcp::wire::splice::Edit;
use crate::mcp::wire::{Era, quoted, splice};

/// One page of an upstream: its bytes, and its result in them.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a> {
    pub(crate) input: &'a [u8],
    pub(crate) result: &'a Node,
}

impl<'a> Page<'a> {
    fn items(&self, listing: Listing) -> Option<(&'a Node, &'a [Node])> {
        let items = self.result.get(listing.member())?;
        Some((items, items.as_array()?))
    }

    /// The items that stay, each under its prefix.
    fn kept(&self, listing: Listing, keeps: &dyn Fn(&Node) -> bool, prefix: Option<&UpstreamId>) -> Vec<Vec<u8>> {
        let items = self.items(listing).map_or(&[][..], |(_, items)| items);
        let kept = items.iter().filter(|item| keeps(item));
        kept.map(|item| splice::edited(self.input, &item.span, &renamed(listing, item, prefix))).collect()
    }

    /// The upstream's result, without the items that `keeps` says no to. Where one is left out, what stood between items
    /// becomes a comma.
    pub(crate) fn alone(&self, listing: Listing, keeps: &dyn Fn(&Node) -> bool) -> Vec<u8> {
        let mut edits: Vec<Edit> = forced_private(self.result).into_iter().collect();
        if let (Some(listed), None) = (self.result.get(listing.member()), self.items(listing)) {
            // What could not be looked through shows nothing.
            edits.push((listed.span.clone(), "[]".to_owned()));
        }
        if let Some((array, items)) = self.items(listing)
            && !items.iter().all(keeps)
        {
            let kept = self.kept(listing, keeps, None);
            let text = [b"[", kept.join(&b',').as_slice(), b"]"].concat();
            // Cut at items, so it is as good a text as it was.
            edits.push((array.span.clone(), String::from_utf8_lossy(&text).into_owned()));
        }
        edits.sort_by_key(|(span, _)| span.start);
        splice::edited(self.input, &self.result.span, &edits)
    }

    fn ttl_ms(&self) -> Option<u64> {
        self.result.get("ttlMs")?.as_u64(self.input)
    }
}

fn renamed(listing: Listing, item: &Node, prefix: Option<&UpstreamId>) -> Vec<Edit> {
    prefix.map(|upstream| Prefixing::of(upstream).item(listing, item).edits()).unwrap_or_default()
}

/// A page of several upstreams, in their order.
pub(crate) struct Merged {
    listing: Listing,
    items: Vec<Vec<u8>>,
    ttl_ms: Option<u64>,
}

impl Merged {
    pub(crate) const fn new(listing: Listing) -> Self {
        Self { listing, items: Vec::new(), ttl_ms: None }
    }

    /// Adds the page of one upstream.
    pub(crate) fn add(&mut self, page: Page<'_>, keeps: &dyn Fn(&Node) -> bool, upstream: &UpstreamId) {
        self.items.extend(page.kept(self.listing, keeps, Some(upstream)));
        // As fresh as the least fresh part of it.
        let ttl_ms = page.ttl_ms().unwrap_or_default();
        self.ttl_ms = Some(self.ttl_ms.map_or(ttl_ms, |least| least.min(ttl_ms)));
    }

    /// The result, with a cursor of ours where there is more.
    pub(crate) fn result(self, era: Era, cursor: Option<&str>) -> Vec<u8> {
        let mut text = Vec::from(&b"{"[..]);
        if era == Era::Modern {
            let ttl_ms = self.ttl_ms.unwrap_or_default();
            let head = format!(r#""resultType":"complete","ttlMs":{ttl_ms},"cacheScope":"private","#);
            text.extend_from_slice(head.as_bytes());
        }
        text.extend_from_slice(format!("\"{}\":[", self.listing.member()).as_bytes());
        text.extend_from_slice(&self.items.join(&b','));
        text.extend_from_slice(b"]");
        if let Some(cursor) = cursor {
            text.extend_from_slice(format!(r#","nextCursor":{}"#, quoted(cursor)).as_bytes());
        }
        text.extend_from_slice(b"}");
        text
    }
}

/// The cursor of a page; none where it is the last.
pub(crate) fn next_cursor(result: &Node) -> Option<&str> {
    match &result.get("nextCursor")?.value {
        Value::String(cursor) => Some(cursor),
        _ => None,
    }
}
