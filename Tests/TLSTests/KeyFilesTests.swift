import CLinux
import Testing

@testable import TLS

@Suite struct KeyFilesTests {
    /// Names with spaces, bytes that look like the form's own lines, and empty files come back as
    /// they were.
    @Test func comeBackAsTheyWere() throws {
        var files = KeyFiles()
        files["a.pem"] = Array("3 b.key\nabc\n".utf8)
        files["with space/b.key"] = [0, 10, 13, 255]
        files["empty"] = []
        let fd = try files.write()
        defer { close(fd) }
        #expect(KeyFiles.read(fd) == files)
        // Every process that is started later reads the same.
        #expect(KeyFiles.read(fd) == files)
    }

    @Test func onlyWhatIsNamedIsHandedOn() throws {
        var files = KeyFiles()
        files["site.key"] = [1]
        files["shadow-ca.pem"] = [2]
        let part = files.only(["shadow-ca.pem", "missing"])
        #expect(part.count == 1)
        #expect(part["site.key"] == nil)
        #expect(part["shadow-ca.pem"] == [2])
    }

    @Test func nothingIsLeftAfterWiping() {
        var files = KeyFiles()
        files["site.key"] = [1, 2, 3]
        files.wipe()
        #expect(files.count == 0)
        #expect(files["site.key"] == nil)
    }
}
