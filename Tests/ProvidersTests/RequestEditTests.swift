import Testing

@testable import Providers

@Suite struct RequestEditTests {
    static let models: [(String, String?)] = [
        (#"{"model":"a","x":1.0}"#, #"{"model":"b\"","x":1.0}"#),
        (#" { "x" : [ ] , "model" : "a" } "#, #" { "x" : [ ] , "model" : "b\"" } "#),
        (#"{"model":"z","model":"a"}"#, #"{"model":"z","model":"b\""}"#),
        (#"{"model":null}"#, nil), ("{}", nil), (#"["model"]"#, nil),
    ]

    @Test(arguments: models) func replacesTheModel(_ given: String, _ wanted: String?) throws {
        let edited = RequestEdit.replacingModel(try JSONDocument(given), with: "b\"")
        #expect(edited.map { String(decoding: $0, as: UTF8.self) } == wanted)
    }

    static let usage: [(String, String?)] = [
        (#"{"a":1}"#, nil), (#"{"stream":false}"#, nil),
        (#"{"stream":true}"#, #"{"stream_options":{"include_usage":true},"stream":true}"#),
        (
            #"{ "stream":true,"stream_options":null}"#,
            #"{ "stream":true,"stream_options":{"include_usage":true}}"#
        ),
        (
            #"{"stream":true,"stream_options":{}}"#,
            #"{"stream":true,"stream_options":{"include_usage":true}}"#
        ),
        (
            #"{"stream":true,"stream_options":{"include_usage":false,"x":1}}"#,
            #"{"stream":true,"stream_options":{"include_usage":true,"x":1}}"#
        ),
        (
            #"{"stream":true,"stream_options":{"x":1}}"#,
            #"{"stream":true,"stream_options":{"include_usage":true,"x":1}}"#
        ),
        (#"{"stream":true,"stream_options":{"include_usage":true}}"#, nil),
    ]

    @Test(arguments: usage) func asksForTheUsage(_ given: String, _ wanted: String?) throws {
        let edited = RequestEdit.includingUsage(try JSONDocument(given))
        #expect(edited.map { String(decoding: $0, as: UTF8.self) } == wanted)
    }

    static let annotated: [(String, String)] = [
        (#"{"a":1}"#, #"{"provider":"p","a":1}"#),
        (" \n{\n \"a\": 1.0 }\n", " \n{\n \"provider\":\"p\",\"a\": 1.0 }\n"),
        ("{}", "{               }"), ("[1]", "               [1]"),
        ("<html>", "               <html>"), ("", "               "), (" {", " {               "),
    ]

    /// Whole and at every split: the same answer, and always as many bytes longer.
    @Test(arguments: annotated) func annotates(_ given: String, _ wanted: String) {
        let bytes = Array(given.utf8)
        for split in 0...bytes.count {
            var annotation = ProviderAnnotation(provider: "p")
            var seen: [UInt8] = []
            for piece in [Array(bytes[..<split]), Array(bytes[split...])] {
                if let place = piece.withUnsafeBytes({ annotation.next($0) }) {
                    seen += piece[..<place.offset] + place.inserted + piece[place.offset...]
                } else {
                    seen += piece
                }
            }
            seen += annotation.end()
            #expect(String(decoding: seen, as: UTF8.self) == wanted, "split at \(split)")
            #expect(seen.count == bytes.count + annotation.count)
        }
    }
}
