/// Why a head, a trailer section or a chunked body was refused.
///
/// For a request the proxy answers with `status` and closes; for an answer it sends 502 and uses
/// `text` in its log only.
public enum HeadFault: UInt8, Error, Sendable, CaseIterable {
    case leadingLines, badMethod, methodTooLong, badRequestLine, badTarget, targetTooLong
    case badAuthority, asteriskWithoutOptions, contentInTrace
    case badVersion, unsupportedVersion, badStatusLine, badStatus
    case bareCR, bareLF, controlByte, foldedLine, leadingSpace
    case emptyFieldName, badFieldName, fieldNameTooLong, spaceBeforeColon, missingColon
    case headTooLarge, tooManyFields, tooManyConnectionOptions
    case missingHost, repeatedHost, badHost
    case badContentLength, repeatedContentLength, lengthAndTransferEncoding
    case badTransferEncoding, repeatedTransferEncoding, transferEncodingInHTTP10
    case unknownTransferCoding, disguisedFramingField, badExpectation
    case badChunkSize, chunkTooLarge, badChunkLine, badChunkEnd
    case badChunkExtension, chunkExtensionTooLong, chunkExtensionsFlood
    case badTrailer, trailersTooLarge

    /// The status of the answer to a request with this fault: 400, 414, 417, 431, 501 or 505.
    public var status: Int {
        switch self {
        case .targetTooLong: 414
        case .badExpectation: 417
        case .headTooLarge, .tooManyFields, .tooManyConnectionOptions, .fieldNameTooLong,
            .trailersTooLarge:
            431
        case .methodTooLong, .unknownTransferCoding: 501
        case .unsupportedVersion: 505
        default: 400
        }
    }

    /// One short sentence for the error answer and the log.
    public var text: StaticString {
        switch self {
        case .leadingLines: "Too many empty lines before the request line."
        case .badMethod: "The method is not a token."
        case .methodTooLong: "The method is longer than any that is known."
        case .badRequestLine: "The request line is not METHOD SP TARGET SP VERSION."
        case .badTarget: "The request target has a form or a byte that is not allowed."
        case .targetTooLong: "The request target is too long."
        case .badAuthority: "The authority in the request target is malformed."
        case .asteriskWithoutOptions: "The target * goes with OPTIONS only."
        case .contentInTrace: "TRACE may not carry content."
        case .badVersion: "The HTTP version is malformed."
        case .unsupportedVersion: "This HTTP version is not supported."
        case .badStatusLine: "The status line is malformed."
        case .badStatus: "The status code is not within 100 to 599."
        case .bareCR: "A CR stands without LF."
        case .bareLF: "A LF stands without CR."
        case .controlByte: "A control byte stands in a field value."
        case .foldedLine: "A field is folded over several lines."
        case .leadingSpace: "White space stands before the first field."
        case .emptyFieldName: "A field has no name."
        case .badFieldName: "A field name has a byte that is not allowed."
        case .fieldNameTooLong: "A field name is too long."
        case .spaceBeforeColon: "White space stands before a colon."
        case .missingColon: "A field line has no colon."
        case .headTooLarge: "The head is too large."
        case .tooManyFields: "There are too many fields."
        case .tooManyConnectionOptions: "Connection lists too many options."
        case .missingHost: "The Host field is missing."
        case .repeatedHost: "The Host field is repeated."
        case .badHost: "The Host field is malformed."
        case .badContentLength: "Content-Length is malformed."
        case .repeatedContentLength: "Content-Length is repeated."
        case .lengthAndTransferEncoding: "Content-Length and Transfer-Encoding exclude each other."
        case .badTransferEncoding: "Transfer-Encoding is malformed."
        case .repeatedTransferEncoding: "Transfer-Encoding is repeated."
        case .transferEncodingInHTTP10: "HTTP/1.0 has no Transfer-Encoding."
        case .unknownTransferCoding: "Only the transfer coding chunked is supported."
        case .disguisedFramingField: "A field name disguises Content-Length or Transfer-Encoding."
        case .badExpectation: "Only the expectation 100-continue is supported."
        case .badChunkSize: "A chunk size is malformed."
        case .chunkTooLarge: "A chunk size is too large."
        case .badChunkLine: "A chunk-size line does not end in CRLF."
        case .badChunkEnd: "Chunk data is not followed by CRLF."
        case .badChunkExtension: "A chunk extension is malformed."
        case .chunkExtensionTooLong: "A chunk extension is too long."
        case .chunkExtensionsFlood: "The chunk extensions of the message are too long."
        case .badTrailer: "The trailer section is malformed."
        case .trailersTooLarge: "The trailer section is too large."
        }
    }
}

/// What became of bytes that should be a head or a trailer section.
public enum HeadOutcome: Sendable, Equatable {
    /// Parsed; `headBytes` counts from the buffer's first byte to behind the closing empty line.
    case complete(headBytes: Int)
    /// Everything so far is allowed, and the end is not there yet.
    case incomplete
    /// Refused. More bytes do not change that, nor the fault.
    case invalid(HeadFault)
}
