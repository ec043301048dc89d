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

    static let both: [(String, String?, Bool, String?)] = [
        (
            #"{"stream":true,"model":"a","x":1.0}"#, "b", true,
            #"{"stream_options":{"include_usage":true},"stream":true,"model":"b","x":1.0}"#
        ),
        (
            #"{"model":"a","stream_options":{"include_usage":false},"stream":true}"#, "bb", true,
            #"{"model":"bb","stream_options":{"include_usage":true},"stream":true}"#
        ),
        (
            #"{"stream_options":null,"stream":true,"model":"aaa"}"#, "b", true,
            #"{"stream_options":{"include_usage":true},"stream":true,"model":"b"}"#
        ),
        (#"{"stream":true,"model":"a"}"#, "b", false, #"{"stream":true,"model":"b"}"#),
        (
            #"{"stream":true,"model":"a"}"#, nil, true,
            #"{"stream_options":{"include_usage":true},"stream":true,"model":"a"}"#
        ),
        (#"{"stream":true,"model":"a"}"#, nil, false, nil), (#"{"x":"a"}"#, "b", true, nil),
    ]

    @Test(arguments: both)
    func changesBoth(_ given: String, _ model: String?, _ asks: Bool, _ wanted: String?) throws {
        let edited = RequestEdit.edited(
            try JSONDocument(given), model: model, asksForUsage: asks)
        #expect(edited.map { String(decoding: $0, as: UTF8.self) } == wanted)
    }

    static let annotated: [(String, String?)] = [
        (#"{"a":1}"#, #"{"provider":"p\"","a":1}"#),
        (" \n{\n \"a\": 1.0 }\n", " \n{\n \"provider\":\"p\\\"\",\"a\": 1.0 }\n"),
        ("{}", nil), ("[1]", nil), ("<html>", nil), ("", nil), (" { ", nil), ("{{\"a\":1}}", nil),
    ]

    /// The place is told as soon as it can be, and is the same however much has come.
    @Test(arguments: annotated) func annotates(_ given: String, _ wanted: String?) {
        let bytes = Array(given.utf8)
        let member = Array(ProviderAnnotation.member("p\"").utf8)
        var told: ProviderAnnotation.Place?
        for count in 0...bytes.count {
            let place = bytes[..<count].withUnsafeBytes { ProviderAnnotation.place(in: $0) }
            #expect(told == nil || told == place)
            if place != .unknown { told = place }
        }
        guard case .at(let offset)? = told else {
            #expect(wanted == nil)
            return
        }
        let made = Array(bytes[..<offset]) + member + bytes[offset...]
        #expect(String(decoding: made, as: UTF8.self) == wanted)
    }
}
