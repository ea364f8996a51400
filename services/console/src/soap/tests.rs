//! What must never be read, and what must.

use super::*;

const X: &str = "http://x-road.eu/xsd/xroad.xsd";

fn wrap(headers: &str, body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"{ENVELOPE}\" xmlns:x=\"{X}\"><s:Header>{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn refused(text: &str) -> SoapError {
    Envelope::read(text.as_bytes(), X).expect_err(text)
}

#[test]
fn an_envelope_is_read_and_written_back() {
    let text = wrap(
        "<x:userId>EE&#49;&lt;2<![CDATA[<3]]></x:userId><x:client xmlns:i=\"urn:i\" i:objectType=\"A&amp;B\"><i:code/></x:client>",
        "<q xmlns=\"urn:q\"/>",
    );
    let read = Envelope::read(text.as_bytes(), X).unwrap();
    assert_eq!(read.header(X, "userId"), Some("EE1<2<3"));
    assert!(read.request.is("urn:q", "q"));
    let again = envelope(&read.headers, "<q xmlns=\"urn:q\"/>");
    let again = Envelope::read(again.as_bytes(), X).unwrap();
    assert_eq!(again.headers, read.headers);
}

#[test]
fn no_document_type_no_entity_no_instruction() {
    let body = wrap("", "<q/>");
    let external = format!(
        "<!DOCTYPE s [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>{}",
        wrap("<x:userId>&x;</x:userId>", "<q/>")
    );
    let laughs = format!(
        "<!DOCTYPE s [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;\">]>{}",
        wrap("<x:userId>&c;</x:userId>", "<q/>")
    );
    for text in [
        external,
        laughs,
        format!("<!DOCTYPE s>{body}"),
        format!("<?xml-stylesheet href=\"x\"?>{body}"),
        wrap("<x:userId>&x;</x:userId>", "<q/>"),
        wrap("<x:userId a=\"&x;\"/>", "<q/>"),
        wrap("", "<q><!DOCTYPE q></q>"),
    ] {
        assert_eq!(refused(&text), SoapError::Forbidden, "{text}");
    }
}

#[test]
fn everything_has_a_bound() {
    let deep = format!("{}{}", "<a>".repeat(MAX_DEPTH), "</a>".repeat(MAX_DEPTH));
    assert_eq!(refused(&wrap("", &deep)), SoapError::TooLarge);
    let wide = format!("<q>{}</q>", "<a/>".repeat(MAX_ELEMENTS));
    assert_eq!(refused(&wrap("", &wide)), SoapError::TooLarge);
}

#[test]
fn what_is_no_request_is_refused() {
    for text in [
        String::new(),
        "<a>".to_owned(),
        wrap("", "<q></r>"),
        wrap("", "<z:q/>"),
        wrap("", "<q a=\"1\" a=\"2\"/>"),
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-16\"?>{}",
            wrap("", "<q/>")
        ),
        format!("{}{}", wrap("", "<q/>"), wrap("", "<q/>")),
        format!("{} text", wrap("", "<q/>")),
    ] {
        assert_eq!(refused(&text), SoapError::Malformed, "{text}");
    }
    let other = wrap("", "<q/>").replace(ENVELOPE, "http://www.w3.org/2003/05/soap-envelope");
    for text in [
        wrap("", ""),
        wrap("", "<q/><q/>"),
        wrap("", "<q/>").replace("s:Body", "s:Other"),
        other,
    ] {
        assert_eq!(refused(&text), SoapError::NotEnvelope, "{text}");
    }
    assert!(Envelope::read(&[0xff, 0xfe, b'<'], X).is_err());
    let must = |namespace: &str| {
        let entry = format!("<m:a xmlns:m=\"{namespace}\" s:mustUnderstand=\"1\"/>");
        Envelope::read(wrap(&entry, "<q/>").as_bytes(), X)
    };
    assert_eq!(must("urn:security").unwrap_err(), SoapError::MustUnderstand);
    assert!(must(X).is_ok());
}

#[test]
fn a_fault_is_an_envelope() {
    let text = fault("Client", "CODE", "a < b", &text_element("code", "x\u{0}&"));
    let read = Envelope::read(text.as_bytes(), X).unwrap();
    assert!(read.request.is(ENVELOPE, "Fault"));
    let told: Vec<&str> = read
        .request
        .children
        .iter()
        .map(|c| c.text.as_str())
        .collect();
    assert_eq!(told, ["e:Client", "CODE: a < b", ""]);
    assert_eq!(read.request.children[2].children[0].text, "x&");
}
