// Go's own note and tlog packages (golang.org/x/mod/sumdb) on our checkpoints, proofs and tiles.
//
// Go builds its own tree over our entries and makes every tile anew; ours must be the same bytes. tlog.TileHashReader
// would be shorter, but in x/mod 0.7.0 it leaves tiles unproven: it skips as many as the tree has subtrees (len(stx)),
// not as many tiles as these lie in, so a flipped tile passes it.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Name, Kind, Note, Vkey, Folder, Leaf string
	OldNote                              string `json:"old_note"`
	Index                                int64
	Path                                 []string
}

const height = 8

func main() {
	text, err := os.ReadFile(os.Args[1])
	check(err)
	var cases []testCase
	check(json.Unmarshal(text, &cases))
	kinds := map[string]func(testCase) error{
		"checkpoint":  func(c testCase) error { _, err := open(c.Note, c.Vkey); return err },
		"inclusion":   inclusion,
		"consistency": consistency,
		"tiles":       tiles,
	}
	answers := make([]*bool, len(cases))
	for i, c := range cases {
		if kind := kinds[c.Kind]; kind != nil {
			err := kind(c)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", c.Name, err)
			}
			holds := err == nil
			answers[i] = &holds
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(answers))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// open is what tlog.ParseTree does, which insists on another first line.
func open(text, vkey string) (tree tlog.Tree, err error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tree, err
	}
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("not a checkpoint of %s", verifier.Name())
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

func hashes(path []string) (list []tlog.Hash, err error) {
	for _, text := range path {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		list = append(list, hash)
	}
	return list, nil
}

func inclusion(c testCase) error {
	tree, err := open(c.Note, c.Vkey)
	if err != nil {
		return err
	}
	path, err := hashes(c.Path)
	if err != nil {
		return err
	}
	leaf, err := base64.StdEncoding.DecodeString(c.Leaf)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, c.Index, tlog.RecordHash(leaf))
}

func consistency(c testCase) error {
	older, err := open(c.OldNote, c.Vkey)
	if err != nil {
		return err
	}
	tree, err := open(c.Note, c.Vkey)
	if err != nil {
		return err
	}
	path, err := hashes(c.Path)
	if err != nil {
		return err
	}
	return tlog.CheckTree(path, tree.N, tree.Hash, older.N, older.Hash)
}

// stored is the hashes of a tree in Go's own order.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) (read []tlog.Hash, err error) {
	for _, index := range indexes {
		if index >= int64(len(s)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		read = append(read, s[index])
	}
	return read, nil
}

// path is a tile's, without the height that C2SP tlog-tiles leaves out, and with its name for entries.
func path(tile tlog.Tile) string {
	name := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	return "tile/" + strings.Replace(name, "data/", "entries/", 1)
}

func tiles(c testCase) error {
	text, err := os.ReadFile(filepath.Join(c.Folder, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := open(string(text), c.Vkey)
	if err != nil {
		return err
	}
	hashes, err := rebuilt(c.Folder, tree.N)
	if err != nil {
		return err
	}
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil || root != tree.Hash {
		return fmt.Errorf("the entries do not lead to the root: %v", err)
	}
	for _, tile := range tlog.NewTiles(height, 0, tree.N) {
		// It names every width that the edge may have had on the way; a log need only have had this one.
		if edge := tree.N >> (height * tile.L) % (1 << height); tile.W < 1<<height && int64(tile.W) != edge {
			continue
		}
		want, err := tlog.ReadTileData(tile, hashes)
		if err != nil {
			return err
		}
		found, err := os.ReadFile(filepath.Join(c.Folder, path(tile)))
		if err != nil || !bytes.Equal(found, want) {
			return fmt.Errorf("%s is not the entries' (%v)", path(tile), err)
		}
	}
	return nil
}

// rebuilt is Go's tree over the entries of all bundles.
func rebuilt(folder string, size int64) (hashes stored, err error) {
	for start := int64(0); start < size; start += 1 << height {
		width := size - start
		if width > 1<<height {
			width = 1 << height
		}
		tile := tlog.Tile{H: height, L: -1, N: start >> height, W: int(width)}
		bundle, err := os.ReadFile(filepath.Join(folder, path(tile)))
		if err != nil {
			return nil, err
		}
		for i := start; i < start+width; i++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return nil, fmt.Errorf("entry %d is cut short", i)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			more, err := tlog.StoredHashes(i, bundle[2:end], hashes)
			if err != nil {
				return nil, err
			}
			hashes, bundle = append(hashes, more...), bundle[end:]
		}
		if len(bundle) != 0 {
			return nil, fmt.Errorf("the bundle at %d has more than its entries", start)
		}
	}
	return hashes, nil
}
