import HTTP
import Testing
import Upstream

@testable import Proxy

@Suite struct ClientKeysTests {
    private static func auth(_ keys: [String?]) -> AuthSettings {
        var auth = AuthSettings()
        for (index, text) in keys.enumerated() {
            var key = AuthSettings.Key(name: "k\(index)", source: .variable("K\(index)"))
            key.key = text.flatMap { ProviderKey(Array($0.utf8)) }
            auth.keys.append(key)
        }
        return auth
    }

    private func found(_ keys: [String?], _ fields: String) throws -> Int {
        let request = try ParsedRequest("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
        let keys = try #require(ClientKeys(Self.auth(keys)))
        return request.source.withUnsafeBytes { keys.find(request.head.fields, $0.baseAddress!) }
    }

    @Test(
        arguments: [
            ("Authorization: Bearer alpha\r\n", 1), ("authorization: bearer   beta \r\n", 2),
            ("X-Api-Key: alpha\r\n", 1), ("x-api-key:beta\r\n", 2), ("", 0),
            ("Authorization: alpha\r\n", 0), ("Authorization: Basic alpha\r\n", 0),
            ("Authorization: Bearer\r\n", 0), ("Authorization: Bearer \r\n", 0),
            ("Authorization: Bearer alph\r\n", 0), ("Authorization: Bearer alphaa\r\n", 0),
            ("Authorization: Bearer ALPHA\r\n", 0), ("Authorization: Bearer alpha, beta\r\n", 0),
            ("X-Api-Key: \r\n", 0), ("X-Api-Keys: alpha\r\n", 0), ("Api-Key: alpha\r\n", 1),
            ("X-Api-Key: other\r\nAuthorization: Bearer beta\r\n", 2),
            ("X-Api-Key: \(String(repeating: "a", count: 4_000))\r\n", 0),
            ("Cookie: alpha\r\n", 0), ("X-Api-Key: alpha\\0\r\n", 0),
        ])
    func keys(_ fields: String, _ place: Int) throws {
        #expect(try found(["alpha", "beta"], fields) == place)
    }

    /// A key that is not set lets nobody in, not even who brings nothing.
    @Test func keysThatAreNotThere() throws {
        for fields in ["", "X-Api-Key: \r\n", "Authorization: Bearer \r\n", "X-Api-Key: x\r\n"] {
            #expect(try found([nil], fields) == 0)
            #expect(try found([nil, "y"], fields) == 0)
        }
        #expect(try found([nil, "y"], "X-Api-Key: y\r\n") == 2)
        #expect(ClientKeys(nil) == nil)
    }
}
