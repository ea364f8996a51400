//! A small, bounded tree of a document.

use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use super::SoapError;

/// Elements of a document.
pub const MAX_ELEMENTS: usize = 256;
/// How deep they nest.
pub const MAX_DEPTH: usize = 16;

/// One element. Text of several pieces is joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Empty: none.
    pub namespace: String,
    pub name: String,
    pub attributes: Vec<Attribute>,
    pub text: String,
    pub children: Vec<Element>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub namespace: String,
    pub name: String,
    pub value: String,
}

impl Element {
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// With its namespaces declared where they are used.
    pub fn write(&self, out: &mut String) {
        out.push_str(&format!(
            "<{} xmlns=\"{}\"",
            self.name,
            escape(self.namespace.as_str())
        ));
        for (at, one) in self.attributes.iter().enumerate() {
            let value = escape(one.value.as_str());
            if one.namespace.is_empty() {
                out.push_str(&format!(" {}=\"{value}\"", one.name));
            } else {
                let namespace = escape(one.namespace.as_str());
                let name = &one.name;
                out.push_str(&format!(
                    " xmlns:a{at}=\"{namespace}\" a{at}:{name}=\"{value}\""
                ));
            }
        }
        out.push('>');
        out.push_str(&escape(self.text.as_str()));
        self.children.iter().for_each(|child| child.write(out));
        out.push_str(&format!("</{}>", self.name));
    }
}

/// The document's root.
pub fn read(bytes: &[u8]) -> Result<Element, SoapError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SoapError::Malformed)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = NsReader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let (mut root, mut count) = (None, 0);
    loop {
        let event = reader.read_event().map_err(|_| SoapError::Malformed)?;
        match event {
            Event::Start(start) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() >= MAX_DEPTH {
                    return Err(SoapError::TooLarge);
                }
                if root.is_some() {
                    return Err(SoapError::Malformed);
                }
                open.push(element(&reader, &start)?);
            }
            Event::Empty(start) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() >= MAX_DEPTH {
                    return Err(SoapError::TooLarge);
                }
                let element = element(&reader, &start)?;
                close(element, &mut open, &mut root)?;
            }
            Event::End(_) => {
                let element = open.pop().ok_or(SoapError::Malformed)?;
                close(element, &mut open, &mut root)?;
            }
            Event::Text(text) => put(&text.xml10_content(), &mut open)?,
            Event::CData(text) => put(&text.xml10_content(), &mut open)?,
            Event::GeneralRef(reference) => {
                // XML's own five and numbers; whatever a document type could define is refused.
                let number = reference.resolve_char_ref();
                match number.map_err(|_| SoapError::Malformed)? {
                    Some(character) => put(character.encode_utf8(&mut [0; 4]), &mut open)?,
                    None => {
                        let name = reference.xml10_content();
                        let known = resolve_xml_entity(&name).ok_or(SoapError::Forbidden)?;
                        put(known, &mut open)?;
                    }
                }
            }
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose();
                let encoding = encoding.map_err(|_| SoapError::Malformed)?;
                if encoding.is_some_and(|name| !name.eq_ignore_ascii_case("utf-8")) {
                    return Err(SoapError::Malformed);
                }
            }
            Event::DocType(_) | Event::PI(_) => return Err(SoapError::Forbidden),
            Event::Comment(_) => {}
            Event::Eof if open.is_empty() => return root.ok_or(SoapError::Malformed),
            Event::Eof => return Err(SoapError::Malformed),
        }
    }
}

fn close(
    element: Element,
    open: &mut [Element],
    root: &mut Option<Element>,
) -> Result<(), SoapError> {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None if root.is_none() => *root = Some(element),
        None => return Err(SoapError::Malformed),
    }
    Ok(())
}

fn put(text: &str, open: &mut [Element]) -> Result<(), SoapError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        // Outside of the root there is white space only.
        None if text.trim().is_empty() => {}
        None => return Err(SoapError::Malformed),
    }
    Ok(())
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Element, SoapError> {
    let (namespace, name) = reader.resolver().resolve_element(start.name());
    let mut element = Element {
        namespace: bound(&namespace)?,
        name: name.as_ref().to_owned(),
        ..Element::default()
    };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| SoapError::Malformed)?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let (namespace, name) = reader.resolver().resolve_attribute(attribute.key);
        let value = attribute.normalized_value(XmlVersion::Explicit1_0);
        element.attributes.push(Attribute {
            namespace: bound(&namespace)?,
            name: name.as_ref().to_owned(),
            // An entity that isn't XML's own.
            value: value.map_err(|_| SoapError::Forbidden)?.into_owned(),
        });
    }
    Ok(element)
}

fn bound(resolved: &ResolveResult<'_>) -> Result<String, SoapError> {
    match resolved {
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Bound(namespace) => Ok(namespace.as_ref().to_owned()),
        ResolveResult::Unknown(_) => Err(SoapError::Malformed),
    }
}
