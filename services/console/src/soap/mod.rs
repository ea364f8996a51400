//! SOAP 1.1 as far as one service needs it: read an envelope, write an answer or a fault.
//!
//! What comes is hostile: no document type, no entities but XML's own five, no processing
//! instructions, and a bound on everything.

mod tree;

use quick_xml::escape::escape;

pub use tree::{Element, MAX_DEPTH, MAX_ELEMENTS};

/// SOAP 1.1, section 3.
pub const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
/// Largest envelope, bytes.
pub const MAX_ENVELOPE_BYTES: usize = 16 * 1024;
/// What every answer is.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SoapError {
    #[error("not well-formed XML in UTF-8")]
    Malformed,
    #[error("a document type, an entity or a processing instruction")]
    Forbidden,
    #[error("too many or too deeply nested elements")]
    TooLarge,
    #[error("not an envelope of SOAP 1.1 with one request in its body")]
    NotEnvelope,
    #[error("a header that must be understood is not")]
    MustUnderstand,
}

impl SoapError {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "HTTP_SOAP_MALFORMED",
            Self::Forbidden => "HTTP_SOAP_FORBIDDEN",
            Self::TooLarge => "HTTP_SOAP_TOO_LARGE",
            Self::NotEnvelope => "HTTP_SOAP_ENVELOPE",
            Self::MustUnderstand => "HTTP_SOAP_MUST_UNDERSTAND",
        }
    }
}

/// A request: its header entries and the one element of its body.
#[derive(Debug)]
pub struct Envelope {
    pub headers: Vec<Element>,
    pub request: Element,
}

impl Envelope {
    /// # Errors
    /// What [`SoapError`] names. `understood`: the namespace of the header entries that the service knows.
    pub fn read(bytes: &[u8], understood: &str) -> Result<Self, SoapError> {
        let root = tree::read(bytes)?;
        if !root.is(ENVELOPE, "Envelope") {
            return Err(SoapError::NotEnvelope);
        }
        let (mut headers, mut body) = (None, None);
        for part in root.children {
            if part.is(ENVELOPE, "Header") && headers.is_none() && body.is_none() {
                headers = Some(part.children);
            } else if part.is(ENVELOPE, "Body") && body.is_none() {
                body = Some(part.children);
            } else {
                return Err(SoapError::NotEnvelope);
            }
        }
        let headers = headers.unwrap_or_default();
        let foreign = |entry: &&Element| entry.namespace != understood;
        if headers.iter().filter(foreign).any(must_understand) {
            return Err(SoapError::MustUnderstand);
        }
        let mut body = body.ok_or(SoapError::NotEnvelope)?.into_iter();
        match (body.next(), body.next()) {
            (Some(request), None) => Ok(Self { headers, request }),
            _ => Err(SoapError::NotEnvelope),
        }
    }

    /// The text of a header entry.
    pub fn header(&self, namespace: &str, name: &str) -> Option<&str> {
        let mut entries = self.headers.iter();
        let entry = entries.find(|entry| entry.is(namespace, name))?;
        Some(entry.text.trim())
    }
}

fn must_understand(entry: &Element) -> bool {
    let mut attributes = entry.attributes.iter();
    attributes.any(|one| {
        one.namespace == ENVELOPE && one.name == "mustUnderstand" && one.value.trim() == "1"
    })
}

/// An envelope with these header entries and this body.
pub fn envelope(headers: &[Element], body: &str) -> String {
    let mut out =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<e:Envelope xmlns:e=\"{ENVELOPE}\">");
    if !headers.is_empty() {
        out.push_str("<e:Header>");
        headers.iter().for_each(|entry| entry.write(&mut out));
        out.push_str("</e:Header>");
    }
    out.push_str("<e:Body>");
    out.push_str(body);
    out.push_str("</e:Body></e:Envelope>\n");
    out
}

/// SOAP 1.1, section 4.4. `who`: `Client` or `Server`, or another of its codes.
pub fn fault(who: &str, code: &str, text: &str, detail: &str) -> String {
    let body = format!(
        "<e:Fault><faultcode>e:{who}</faultcode><faultstring>{}: {}</faultstring><detail>{detail}</detail></e:Fault>",
        escape(code),
        escape(text),
    );
    envelope(&[], &body)
}

/// An element without namespace that holds a text.
pub fn text_element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(clean(text)))
}

/// Without what XML 1.0 can't hold even escaped.
fn clean(text: &str) -> String {
    let fit = |c: &char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let fit = |c: &char| fit(c) && !matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().filter(fit).collect()
}

#[cfg(test)]
mod tests;
