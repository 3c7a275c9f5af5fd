package state

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/fxamacker/cbor/v2"
)

// FormatKey shows an encoded key of a type that is described as a manifest does,
// see docs/format/state.md: a string as it is, anything else as JSON, with the
// fields of a struct as a list. What can't be read is shown in hexadecimal,
// behind 0x.
func FormatKey(keyType string, key []byte) string {
	if keyType == "string" {
		return string(key)
	}
	t, rest, err := parseKeyType(keyType)
	if err != nil || rest != "" {
		return "0x" + hex.EncodeToString(key)
	}
	v, key2, err := t.decode(key)
	if err != nil || len(key2) > 0 {
		return "0x" + hex.EncodeToString(key)
	}
	text, err := compactJSON(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// keyShape is a key type as its description has it.
type keyShape struct {
	basic  keyFormat
	of     reflect.Type
	parts  []keyShape // of a struct or array
	nested bool
}

// keyTypes are the types that stand for those described by each word.
var keyTypes = map[string]reflect.Type{
	"string": reflect.TypeFor[string](), "bool": reflect.TypeFor[bool](),
	"int8": reflect.TypeFor[int8](), "int16": reflect.TypeFor[int16](), "int32": reflect.TypeFor[int32](), "int64": reflect.TypeFor[int64](),
	"uint8": reflect.TypeFor[uint8](), "uint16": reflect.TypeFor[uint16](), "uint32": reflect.TypeFor[uint32](), "uint64": reflect.TypeFor[uint64](),
	"float32": reflect.TypeFor[float32](), "float64": reflect.TypeFor[float64](),
}

var errTypeForm = errors.New("not the description of a type")

// parseKeyType reads a description up to its end, and returns what follows.
func parseKeyType(s string) (keyShape, string, error) {
	if rest, ok := strings.CutPrefix(s, "struct{"); ok {
		return parseKeyStruct(rest)
	}
	if rest, ok := strings.CutPrefix(s, "["); ok {
		return parseKeyArray(rest)
	}
	word := s
	if end := strings.IndexAny(s, ",}"); end >= 0 {
		word = s[:end]
	}
	t, ok := keyTypes[word]
	if !ok {
		return keyShape{}, "", errTypeForm
	}
	return keyShape{basic: keyFormats[t.Kind()], of: t}, s[len(word):], nil
}

func parseKeyStruct(s string) (keyShape, string, error) {
	shape := keyShape{nested: true}
	for !strings.HasPrefix(s, "}") {
		part, rest, err := parseKeyType(s)
		if err != nil {
			return shape, "", err
		}
		shape.parts = append(shape.parts, part)
		if s = strings.TrimPrefix(rest, ","); s == rest && !strings.HasPrefix(s, "}") {
			return shape, "", errTypeForm
		}
	}
	return shape, s[1:], nil
}

// maxKeyElems bounds what a description that is damaged can ask for.
const maxKeyElems = 1 << 16

func parseKeyArray(s string) (keyShape, string, error) {
	length, elem, ok := strings.Cut(s, "]")
	n, err := strconv.Atoi(length)
	if !ok || err != nil || n < 0 || n > maxKeyElems {
		return keyShape{}, "", errTypeForm
	}
	part, rest, err := parseKeyType(elem)
	shape := keyShape{nested: true}
	for range n {
		shape.parts = append(shape.parts, part)
	}
	return shape, rest, err
}

func (k keyShape) decode(src []byte) (any, []byte, error) {
	if !k.nested {
		v := reflect.New(k.of)
		rest, err := k.basic.decode(src, v.UnsafePointer())
		return v.Elem().Interface(), rest, err
	}
	all := []any{}
	for _, part := range k.parts {
		v, rest, err := part.decode(src)
		if err != nil {
			return nil, nil, err
		}
		all, src = append(all, v), rest
	}
	return all, src, nil
}

// FormatValue shows an encoded value as JSON, given the name of its Go type as a
// manifest has it, where it is in one of the encodings of [CodecFor]: one that
// describes itself, as those of structs do, or one of a type that is made of
// Go's own. It returns false for any other encoding.
func FormatValue(typ string, encoded []byte) ([]byte, bool) {
	const longest = 1 << 10 // that anybody would write
	if t, rest, err := parseType(typ[:min(len(typ), longest)]); err == nil && rest == "" {
		v := reflect.New(t)
		left, err := coderOf(t).decode(encoded, v.UnsafePointer())
		if err != nil || len(left) > 0 {
			return nil, false
		}
		text, err := compactJSON(plain(v.Elem()))
		return text, err == nil
	}
	return formatCBOR(encoded)
}

// formatCBOR shows what can only be CBOR of something with a struct in it: a map
// or a list, or null.
func formatCBOR(encoded []byte) ([]byte, bool) {
	const list, mapping, null = 4, 5, 0xf6
	if len(encoded) == 0 || encoded[0]>>5 != list && encoded[0]>>5 != mapping && encoded[0] != null {
		return nil, false
	}
	var v any
	if cborAny.Unmarshal(encoded, &v) != nil {
		return nil, false
	}
	text, err := compactJSON(plain(reflect.ValueOf(&v).Elem()))
	return text, err == nil
}

var cborAny = must(cbor.DecOptions{
	UTF8:             cbor.UTF8DecodeInvalid,
	IndefLength:      cbor.IndefLengthForbidden,
	MaxArrayElements: math.MaxInt32,
	MaxMapPairs:      math.MaxInt32,
	DefaultMapType:   reflect.TypeFor[map[any]any](),
	BignumTag:        cbor.BignumTagAllowed,
}.DecMode())

func compactJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// plain makes of a value what JSON has words for: numbers that are none become
// strings, and so do keys.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if v.CanInterface() {
			if _, ok := v.Interface().(json.Marshaler); ok && v.Kind() == reflect.Pointer {
				return v.Interface()
			}
		}
		return plain(v.Elem())
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprint(f)
		}
	case reflect.Slice, reflect.Array:
		return plainList(v)
	case reflect.Map:
		return plainMap(v)
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return d.String()
	}
	return v.Interface()
}

func plainList(v reflect.Value) any {
	if v.Kind() == reflect.Slice && v.IsNil() {
		return nil
	}
	switch {
	case v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice:
		return v.Interface()
	case v.Type().Elem().Size() == 0: // two billion of them take no byte
		return fmt.Sprintf("%d of %v", v.Len(), v.Type().Elem())
	}
	all := make([]any, v.Len())
	for i := range all {
		all[i] = plain(v.Index(i))
	}
	return all
}

func plainMap(v reflect.Value) any {
	if v.IsNil() {
		return nil
	}
	all := make(map[string]any, v.Len())
	for iter := v.MapRange(); iter.Next(); {
		key := plain(iter.Key())
		text, ok := key.(string)
		if !ok {
			b, err := compactJSON(key)
			if text = string(b); err != nil {
				text = fmt.Sprint(key)
			}
		}
		all[text] = plain(iter.Value())
	}
	return all
}

// parseType makes a type of its name, if it is made of Go's own types alone, and
// returns what follows the name.
func parseType(s string) (reflect.Type, string, error) {
	switch {
	case strings.HasPrefix(s, "[]"):
		t, rest, err := parseType(s[2:])
		if err != nil {
			return nil, "", err
		}
		return reflect.SliceOf(t), rest, nil
	case strings.HasPrefix(s, "*"):
		t, rest, err := parseType(s[1:])
		if err != nil {
			return nil, "", err
		}
		return reflect.PointerTo(t), rest, nil
	case strings.HasPrefix(s, "map["):
		return parseMapType(s[4:])
	case strings.HasPrefix(s, "["):
		return parseArrayType(s[1:])
	}
	name := s
	if end := strings.IndexByte(s, ']'); end >= 0 {
		name = s[:end]
	}
	t, ok := ownTypes[name]
	if !ok {
		return nil, "", errTypeForm
	}
	return t, s[len(name):], nil
}

var ownTypes = func() map[string]reflect.Type {
	all := map[string]reflect.Type{
		"int": reflect.TypeFor[int](), "uint": reflect.TypeFor[uint](), "uintptr": reflect.TypeFor[uintptr](),
		"struct {}": reflect.TypeFor[struct{}](), "time.Time": timeType, "time.Duration": reflect.TypeFor[time.Duration](),
	}
	for name, t := range keyTypes {
		all[name] = t
	}
	return all
}()

func parseMapType(s string) (reflect.Type, string, error) {
	key, rest, err := parseType(s)
	if err != nil || !strings.HasPrefix(rest, "]") || !key.Comparable() {
		return nil, "", errTypeForm
	}
	val, rest, err := parseType(rest[1:])
	if err != nil {
		return nil, "", err
	}
	return reflect.MapOf(key, val), rest, nil
}

// maxArray bounds what a name that is damaged can ask for.
const maxArray = 1 << 20

func parseArrayType(s string) (reflect.Type, string, error) {
	length, elem, ok := strings.Cut(s, "]")
	n, err := strconv.Atoi(length)
	if !ok || err != nil || n < 0 {
		return nil, "", errTypeForm
	}
	t, rest, err := parseType(elem)
	if err != nil || unsafeSize(t, n) > maxArray {
		return nil, "", errTypeForm
	}
	return reflect.ArrayOf(n, t), rest, nil
}

func unsafeSize(t reflect.Type, n int) uintptr {
	if n > maxArray {
		return maxArray + 1
	}
	return max(t.Size(), unsafe.Sizeof(byte(0))) * uintptr(n)
}
